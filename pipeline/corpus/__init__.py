"""Turns repositories into snippets: reading sources, parsing, splitting, keeping track of what changed.

What does not belong here: embedding, or anything about models beyond a token limit and a way to count tokens.
"""
