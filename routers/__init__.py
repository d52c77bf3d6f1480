"""Forecasts and choices: knows queries, model cards and outcomes; never a chat request, a socket or a database."""
