"""The same real snippets and vectors as the tests of index/."""

from assets_tests.index.conftest import functions, vectors

__all__ = ["functions", "vectors"]
