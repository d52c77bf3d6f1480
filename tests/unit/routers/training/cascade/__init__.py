"""Cascades learned from outcomes."""
