"""How good a model is: metrics, statistics, test queries, the report with its tables and plots.

What does not belong here: deciding anything (promotion/).
"""
