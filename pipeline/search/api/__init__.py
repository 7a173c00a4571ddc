"""The HTTP service: what it takes and gives, who may use it and how much, and what it counts.

What does not belong here: finding anything (the rooms above), the web page (web/).
"""
