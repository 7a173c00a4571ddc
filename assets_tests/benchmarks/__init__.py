"""Measurements beside others and on real data, each a command, and what they share.

Whichever way one is run, it passes here: no setting of the user's reaches it.
"""

from assets_tests.benchmarks.environment import leave_out_settings

leave_out_settings()
