"""Where code is read from: one module per kind of repository, each giving the same `Source`.

What belongs here: listing files and reading their bytes, from git, a directory or an installed distribution.
What does not: deciding which of them are worth reading, parsing them, or anything about the database.
"""
