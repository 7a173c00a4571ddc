"""Which model may serve: the gate (a pure function), the registry of model versions, rollback.

What does not belong here: measuring (evaluation/), building or flipping an index (index/).
"""
