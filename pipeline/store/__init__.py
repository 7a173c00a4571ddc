"""Postgres itself: the embedded server, connections and the migrations runner.

What belongs here: how to reach the database and bring its schema up to date.
What does not: any table's queries; those stand in the `store.py` of the room that owns the table.
"""
