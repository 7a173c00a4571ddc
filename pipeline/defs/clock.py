"""What Dagster remembers of times that have not come yet, after the clock was put back.

Its daemon does not ask a sensor again, and passes over every time of a schedule, until the clock is past what
was written down last: if that was a year ahead, for a year. What does not belong here: what Honeloop's own
sensors keep in their cursors (sensors/), which each of them judges by itself.
"""

from collections.abc import Sequence

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorState, ScheduleInstigatorData, SensorInstigatorData

# Clocks of several machines differ a little.
SLACK_SECONDS = 60.0
# So far a schedule may be ahead: after an hour put back it must not do the same night again.
SCHEDULE_SECONDS = 86_400.0


def forget_the_future(instance: dg.DagsterInstance, now: float) -> list[str]:
    """Puts the times that lie ahead back to now, while no daemon runs; returns a sentence for each."""
    said: list[str] = []
    for state in ahead(instance, now):
        data = state.instigator_data
        if isinstance(data, ScheduleInstigatorData):
            for tick in instance.get_ticks(
                state.instigator_origin_id, state.selector_id, after=now + SCHEDULE_SECONDS
            ):
                instance.update_tick(tick._replace(tick_data=tick.tick_data._replace(timestamp=now)))
            changed = data._replace(
                start_timestamp=_no_later(data.start_timestamp, now),
                last_iteration_timestamp=_no_later(data.last_iteration_timestamp, now),
            )
        else:
            assert isinstance(data, SensorInstigatorData)
            changed = data._replace(
                last_tick_timestamp=_no_later(data.last_tick_timestamp, now),
                last_tick_start_timestamp=_no_later(data.last_tick_start_timestamp, now),
            )
        instance.update_instigator_state(state.with_data(changed))
        said.append(f"{state.name} had been asked at a time that is still to come; it is asked again.")
    return said


def ahead(instance: dg.DagsterInstance, now: float) -> Sequence[InstigatorState]:
    """The schedules and sensors that would stand still until the clock is past what they remember."""
    return [state for state in instance.all_instigator_state() if _is_ahead(instance, state, now)]


def _is_ahead(instance: dg.DagsterInstance, state: InstigatorState, now: float) -> bool:
    data = state.instigator_data
    if isinstance(data, SensorInstigatorData):
        last = max(data.last_tick_timestamp or 0, data.last_tick_start_timestamp or 0)
        return last > now + SLACK_SECONDS
    if not isinstance(data, ScheduleInstigatorData):
        return False
    latest = now + SCHEDULE_SECONDS
    if max(data.start_timestamp or 0, data.last_iteration_timestamp or 0) > latest:
        return True
    return bool(instance.get_ticks(state.instigator_origin_id, state.selector_id, after=latest, limit=1))


def _no_later(timestamp: float | None, now: float) -> float | None:
    return None if timestamp is None else min(timestamp, now)
