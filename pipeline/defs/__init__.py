"""Dagster only: assets, checks, partitions, schedules, sensors, jobs, resources; thin.

What does not belong here: anything that would be needed without Dagster; it belongs in a domain room.
"""
