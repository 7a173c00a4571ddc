"""The settings by what they are about, a class each: every field with its default and what it means.

What does not belong here: how they are read, and the one object that has all of them (config.py).
"""
