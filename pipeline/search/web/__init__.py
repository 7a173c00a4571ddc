"""The web page: searching, one snippet, insights, rendered on the server.

What does not belong here: the JSON API and who may use it (search/api/), the figures (search/insights.py).
"""
