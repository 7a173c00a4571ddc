"""Pools: of what one machine has one, one run at a time.

Their limits are the default limit in dagster.yaml, and can be changed in the web page.
"""

# Fine-tuning, and measuring what came of it.
TRAINING = "training"
# Making vectors, and building an index of them.
EMBEDDING = "embedding"
