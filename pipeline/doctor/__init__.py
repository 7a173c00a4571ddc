"""What a crash can have left anywhere: found, named, and mended if asked.

What belongs here: looking through the rooms for leftovers, each by that room's own means.
What does not: Dagster's runs and slots (defs/dead_runs.py), and whether good data is good (checks.py).
"""
