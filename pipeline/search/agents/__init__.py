"""Search for agents, over the Model Context Protocol: the tools, what they answer, stdio and HTTP.

What does not belong here: finding anything (the room above), judging answers (feedback/).
"""
