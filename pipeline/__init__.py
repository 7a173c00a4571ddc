"""Honeloop: a code-search model that hones itself on its users' feedback."""
