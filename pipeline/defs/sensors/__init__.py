"""Sensors, a module for each thing that happens: what starts because of it, and why nothing does.

Each looks at the state itself, so that a missed tick, a killed run or a lost cursor only delays it; a cursor
spares it to look when nothing can have changed. What does not belong here: what starts at a time
(schedules.py), and what a run does.
"""

from pipeline.defs.sensors.failures import failed_runs
from pipeline.defs.sensors.feedback import enough_new_feedback, new_feedback
from pipeline.defs.sensors.index import index_upkeep
from pipeline.defs.sensors.promotion import passed_evaluation
from pipeline.defs.sensors.repositories import new_commits, registered_repositories

__all__ = [
    "enough_new_feedback",
    "failed_runs",
    "index_upkeep",
    "new_commits",
    "new_feedback",
    "passed_evaluation",
    "registered_repositories",
    "sensors",
]

sensors = [
    new_feedback,
    enough_new_feedback,
    passed_evaluation,
    index_upkeep,
    registered_repositories,
    new_commits,
    failed_runs,
]
