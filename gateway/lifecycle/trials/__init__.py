"""Trials of drafts on real traffic: shadow (decide, don't serve) and canary (serve a share), judged as they run."""
