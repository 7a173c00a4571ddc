"""The commands of `honeloop`, grouped: what they take, and how they show what the rooms return.

What does not belong here: anything that would be needed without a command line; it belongs in a domain room.
"""
