"""What counts in the ranking beside meaning: words (BM25), and the crowd around a text.

What belongs here: words, their statistics, crowding, the fusion, and its weights, learned from feedback.
What does not: how a search is answered (query.py); it comes here only where a weight above 0 is proven.
"""
