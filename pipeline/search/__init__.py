"""Answering a search with the serving index, and remembering what was shown.

What does not belong here: building indexes (index/), judging answers (feedback/).
"""
