"""Ranking by words beside ranking by meaning: BM25 over the words of code, fused with the cosine.

What belongs here: words, their statistics, the fusion, and the weight that is learned from feedback.
What does not: how a search is answered (query.py); it comes here only where a weight above 0 is proven.
"""
