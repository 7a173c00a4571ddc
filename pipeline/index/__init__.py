"""Vectors in Postgres: loading, the HNSW build, its measured recall, the atomic flip.

What does not belong here: making vectors (encoders/), answering searches (search/).
"""
