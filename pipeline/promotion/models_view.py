"""How the registry looks in a terminal: the model versions, and every verdict on one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pipeline.evaluation.interleaving import OnlineOutcome
from pipeline.evaluation.online import OnlineComparison
from pipeline.promotion.registry import ModelEvent, ModelRecord
from pipeline.promotion.verdict_view import findings_table, not_shown, online_sentence
from pipeline.promotion.verdicts import GivenVerdict
from pipeline.promotion.weights import given_up_at

_DECISIONS = {"approved": "green", "rejected": "yellow", "not enough evidence": "yellow"}
_ALL_SLICES = 1000


def models_table(records: Sequence[ModelRecord]) -> Table:
    """The model versions, the newest last."""
    table = Table(box=None)
    table.add_column("version", no_wrap=True, min_width=12)
    table.add_column("name", overflow="fold")
    for column in ("state", "from", "dims", "nDCG@10", "MRR@10", "index", "made"):
        table.add_column(column)
    for record in records:
        indexes = [index for index in record.index_versions if index.state in ("ready", "serving", "retired")]
        table.add_row(
            record.version[:12],
            Text(record.name),
            Text(record.state, style="bold green" if record.state == "serving" else ""),
            (record.base_version or "")[:8],
            str(record.dims),
            _metric(record, "ndcg@10"),
            _metric(record, "mrr@10"),
            " ".join(str(index.id) for index in indexes),
            f"{record.created_at:%m-%d %H:%M}",
        )
    return table


def last_words(
    records: Sequence[ModelRecord],
    events: Sequence[ModelEvent],
    latest: Mapping[str, GivenVerdict],
    online: Sequence[OnlineComparison],
) -> Iterator[Text]:
    """Why each model is in its state, what the gate said of it last, and what interleaved searches say."""
    reasoned = {event.version: event for event in reversed(events) if event.reasons}
    for record in records:
        short = record.version[:12]
        event, given = reasoned.get(record.version), latest.get(record.version)
        if event is not None and event.actor != "gate":
            yield Text(f"{short} became {event.to_state} ({event.actor}): {' '.join(event.reasons)}")
        if given is not None:
            style = _DECISIONS.get(given.verdict.decision, "")
            said = " ".join(given.verdict.reasons)
            yield Text.assemble(f"{short} gate: ", (given.verdict.decision, style), f". {said}")
        yield from given_up_lines([record])
        for each in online:
            if each.candidate_version == record.version:
                against = each.serving_version[:12]
                yield Text(f"{short} online, against {against}: {online_sentence(each.outcome)}")


def given_up_lines(records: Sequence[ModelRecord]) -> Iterator[Text]:
    """Of which of them the weights are no longer there, and since when."""
    for record in records:
        given_up = given_up_at(record)
        if given_up is not None:
            yield Text(
                f"{record.version[:12]} weights given up on {given_up[:10]}, as it did not pass; training "
                "from the same data, settings and base makes them again."
            )


def evidence_parts(
    verdicts: Sequence[GivenVerdict], online: Sequence[OnlineComparison]
) -> Iterator[RenderableType]:
    """Every verdict on one model, the newest first, and what people chose beside the one it belongs to."""
    left = {each.serving_version: each.outcome for each in online}
    for given in verdicts:
        yield from verdict_parts(given, left.pop(given.verdict.serving_version, None))
    for serving_version, outcome in left.items():
        yield Text(
            f"\nOnline, by searches interleaved with {serving_version[:12]}, against which the gate was not "
            f"asked: {online_sentence(outcome)}"
        )


def verdict_parts(given: GivenVerdict, online: OnlineOutcome | None) -> Iterator[RenderableType]:
    """One verdict with its reasons, all that was looked at, and the online evidence beside it."""
    verdict = given.verdict
    yield Text.assemble(
        "\n",
        (verdict.decision.capitalize(), f"bold {_DECISIONS.get(verdict.decision, '')}".strip()),
        f" {given.at:%Y-%m-%d %H:%M}, against {verdict.serving_version[:12]}, on test set "
        f"{verdict.test_set[:12]}",
    )
    for reason in verdict.reasons:
        yield Text(f"• {reason}")
    if verdict.findings:
        yield Padding(findings_table(verdict, slices=_ALL_SLICES), (1, 0, 0, 2), expand=False)
        if left_out := not_shown(verdict, slices=_ALL_SLICES):
            yield Text(f"  {left_out}", style="dim")
    if online is not None:
        yield Text(f"\nOnline, by interleaved searches: {online_sentence(online)}")


def _metric(record: ModelRecord, name: str) -> str:
    overall: dict[str, Any] = record.metrics.get("evaluation", {}).get("overall", {})
    return f"{overall[name][0]:.3f}" if name in overall else ""
