"""Backups: everything that cannot be made again in one file, and an empty home made the old one from it.

What belongs here: the file, what of the database and of the home goes into it, and the way back.
What does not: Dagster's records of what was made last (defs/made_last.py), which the command adds.
"""
