"""Parses files that nobody vouches for in a process of its own, within limits of time and memory.

What does not belong here: what is made of a file (`cutting`, `changed_functions`), and what becomes of that.
"""
