"""How the final report of `honeloop run` looks in a terminal, from 80 columns on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pipeline.evaluation import report as tables
from pipeline.evaluation.changes import changes_table
from pipeline.evaluation.compare import SHOWN
from pipeline.evaluation.recipe_lines import recipe_lines
from pipeline.evaluation.run_report import SPLITS, ExampleSearch, RunReport, Source, TrainingData
from pipeline.evaluation.sparkline import sparkline
from pipeline.promotion.registry import ModelRecord
from pipeline.promotion.verdict_view import findings_table, not_shown, online_sentence
from pipeline.training.checkpoints import CURVE
from pipeline.training.history import Row, losses, stages_of, validations
from pipeline.training.validation import METRIC, VALIDATION_LOSS

_SHOWN_LANGUAGES = 6
_SHOWN_PROBLEMS = 3
_CURVE = 24  # characters
_DECISION_STYLES = {
    "approved": "bold green",
    "rejected": "bold yellow",
    "not enough evidence": "bold yellow",
    "already serving": "bold",
}


def render_run_report(report: RunReport) -> RenderableType:
    """The whole report, to be printed on a rich console."""
    parts: list[RenderableType] = [_headline(report)]
    for title, content in _sections(report):
        parts += [Text(), Text(title, style="bold cyan"), Padding(content, (0, 0, 0, 2), expand=False)]
    return Group(*parts)


def _sections(report: RunReport) -> Iterator[tuple[str, RenderableType]]:
    yield "What was indexed", _indexed(report)
    if report.training is not None:
        yield "Where the training pairs came from", _training(report.training)
    if report.candidate is not None and report.candidate.lineage.get("recipe"):
        yield "By which recipe the candidate was trained", _recipe(report.candidate.lineage)
    if report.candidate is not None and report.candidate.lineage.get("history"):
        yield "How the candidate was trained", _trained(report.candidate)
    if report.evaluations:
        yield "How good the models are", _measured(report)
    if report.verdict is not None:
        yield "What the gate says", _verdict(report)
    moved = report.comparison
    if moved is not None and (moved.improved or moved.harmed):
        yield "The queries that moved most", changes_table(moved, SHOWN)
    if report.serving is not None:
        yield "What serves now", _serving(report)
    if report.examples:
        yield "The same searches before and after", _examples(report.examples)
    yield "What to do next", _next(report)


def _headline(report: RunReport) -> Panel:
    message, style = _message(report)
    lines = [Text(message, style=f"bold {style}")]
    verdict = report.verdict
    if verdict is not None and verdict.difference is not None and verdict.decision != "already serving":
        found = verdict.difference
        queries = "feedback test queries" if verdict.primary == "feedback" else "test queries"
        lines.append(
            Text(
                f"{tables.title_of(verdict.metric)} {found.mean:+.3f} on {found.count:,} {queries} "
                f"({found.interval})",
                style="dim",
            )
        )
    return Panel(Group(*lines), border_style=style, box=box.ROUNDED, expand=False, padding=(0, 1))


def _message(report: RunReport) -> tuple[str, str]:
    """One sentence on what came of the run, and its colour."""
    if report.serving is None:
        return "Nothing serves yet.", "red"
    model = report.serving.model
    name = f"{model.name} ({model.version[:8]})" if model.base_version is None else model.name
    verdict, candidate = report.verdict, report.candidate
    if verdict is None or candidate is None:
        return f"{report.corpus.snippets:,} snippets are indexed; {name} serves.", "green"
    if verdict.decision == "already serving":
        return f"Nothing new to learn: {name}, made of this very data, serves already.", "green"
    if not verdict.approved:
        rejected = verdict.decision == "rejected"
        why = (
            "the candidate did not pass the gate" if rejected else "there is not enough evidence for another"
        )
        return f"{name} keeps serving: {why}.", "yellow"
    if model.version == verdict.candidate_version:
        return f"A better model serves now: {name}.", "green"
    waits = f"A better model is approved: {candidate.name}. Its index does not serve yet."
    barred = f"{name} serves: the gate approved {candidate.name}, and a person decided otherwise before."
    return waits if candidate.state == "approved" else barred, "yellow"


def _indexed(report: RunReport) -> RenderableType:
    table = _grid(
        ("source", "left"), ("kind", "left"), ("at", "left"), ("files", "right"), ("snippets", "right")
    )
    table.add_column("change")
    problems: list[Text] = []
    for source in report.sources:
        found = source.report
        table.add_row(
            Text(source.name),
            Text(source.kind, style="dim"),
            Text((source.commit_id or "–")[:10], style="dim"),
            Text(f"{found.get('files_seen', 0):,}"),
            Text(f"{found.get('snippets_live', 0):,}"),
            _change(source),
        )
        problems += _problems(source)
    languages = list(report.corpus.languages.items())
    listed = [f"{name} {count:,}" for name, count in languages[:_SHOWN_LANGUAGES]]
    if len(languages) > _SHOWN_LANGUAGES:
        listed.append(f"{len(languages) - _SHOWN_LANGUAGES} more languages")
    corpus = report.corpus
    total = Text(f"{corpus.snippets:,} snippets, {corpus.contents:,} distinct texts: {', '.join(listed)}")
    secrets = sum(int(source.report.get("secrets", 0)) for source in report.sources)
    said = (
        "a secret (key, token or password) was"
        if secrets == 1
        else f"{secrets:,} secrets (keys, tokens …) were"
    )
    left_out = [Text(f"{said} recognised in the code and left out", style="yellow")] if secrets else []
    return Group(table, Text(), total, *left_out, *problems)


def _change(source: Source) -> Text:
    found = source.report
    if found.get("failed"):
        return Text("not read", style="red")
    signs = (
        ("+", "snippets_added", "green"),
        ("~", "snippets_changed", "yellow"),
        ("−", "snippets_vanished", "red"),
    )
    parts = [(f"{sign}{found[key]:,} ", style) for sign, key, style in signs if found.get(key)]
    return Text.assemble(*parts) if parts else Text("unchanged", style="dim")


def _problems(source: Source) -> list[Text]:
    problems = [str(problem) for problem in source.report.get("problems", [])]
    shown = [Text(f"! {source.name}: {problem}", style="yellow") for problem in problems[:_SHOWN_PROBLEMS]]
    if len(problems) > _SHOWN_PROBLEMS:
        shown.append(
            Text(f"! {source.name}: {len(problems) - _SHOWN_PROBLEMS} more problems", style="yellow")
        )
    return shown


def _training(training: TrainingData) -> RenderableType:
    table = _grid(("origin", "left"), *((split, "right") for split in SPLITS))
    for origin, counts in training.pairs.items():
        table.add_row(Text(origin), *(Text(f"{counts.get(split, 0):,}") for split in SPLITS))
    if len(training.pairs) > 1:
        table.add_section()
        table.add_row(Text("all"), *(Text(f"{training.total(split):,}") for split in SPLITS), style="bold")
    lines: list[RenderableType] = [table]
    if training.negatives:
        lines += [Text(), Text(f"Negatives: {_listed(training.negatives)}", style="dim")]
    for origin, reasons in training.counts.get("dropped", {}).items():
        counts = {str(reason): int(count) for reason, count in reasons.items() if count}
        if counts:
            lines.append(Text(f"Left out of {origin}: {_listed(counts)}", style="dim"))
    lines += [Text(said, style="dim") for said in (_commits(training), _mined(training)) if said]
    return Group(*lines)


def _commits(training: TrainingData) -> str:
    """How many commits were looked at, and why most are not used; empty without any."""
    counts: Counter[str] = Counter()
    for reasons in training.counts.get("commits", {}).values():
        counts.update(reasons)
    used = counts.pop("used", 0)
    if not (used or counts):
        return ""
    return f"Commits: {used:,} used" + (f"; left out: {_listed(counts)}" if counts else "")


def _mined(training: TrainingData) -> str:
    """How many candidates the threshold of mining rejected; empty if nothing was mined."""
    mining = training.counts.get("mining", {})
    candidates = mining.get("candidates", 0)
    if not candidates:
        return ""
    return (
        f"Mining: {mining['over_threshold'] / candidates:.0%} of {candidates:,} neighbours are too near"
        f" (over {mining['max_ratio']:g} of the positive's score, HONELOOP_HARD_NEGATIVE_MAX_RATIO)"
    )


def _recipe(lineage: Mapping[str, Any]) -> RenderableType:
    return Group(*(Text(line) for line in recipe_lines(lineage)))


def _trained(candidate: ModelRecord) -> RenderableType:
    """From what, how long, and whether losses and validation went the right way."""
    lineage = candidate.lineage
    history = lineage["history"]
    found = losses(history)
    base, seconds = str(lineage.get("base_version", ""))[:12], lineage.get("seconds", 0)
    extras = _how(lineage) + _kept(lineage)
    lines = [Text(f"{len(found):,} steps from {base} in {seconds:,.0f} s on {lineage.get('device')}{extras}")]
    stages = stages_of(history, apart=bool(lineage.get("recipe", {}).get("apart")))
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for stage, rows in stages.items():
        if len(stages) > 1:
            table.add_row(Text(stage, style="bold"))
        for title, curve, style, said in _curves(rows):
            table.add_row(title, Text(sparkline(curve, _CURVE), style=style), said)
    findings = lineage.get("convergence", {}).get("overfitting", ())
    picture = Path(candidate.location) / CURVE
    where = [Text(f"The curves: {picture}", style="dim")] if picture.is_file() else []
    return Group(*lines, table, *(Text(each["sentence"], style="yellow") for each in findings), *where)


def _curves(rows: Sequence[Row]) -> Iterator[tuple[str, list[float], str, str]]:
    """What there is to see of a stage: its name, its curve, the curve's style, and the curve in words."""
    found = losses(rows)
    quarter = max(1, len(found) // 4)
    first, last = sum(found[:quarter]) / quarter, sum(found[-quarter:]) / quarter
    yield "training loss", found, "blue", f"{first:.3f} → {last:.3f}"
    validated = validations(rows)
    if held_out := [row for row in validated if VALIDATION_LOSS in row]:
        curve = [float(row[VALIDATION_LOSS]) for row in held_out]
        lowest = min(held_out, key=lambda row: float(row[VALIDATION_LOSS]))["step"]
        yield "validation loss", curve, "blue", f"{curve[0]:.3f} → {curve[-1]:.3f}, lowest at step {lowest}"
    if validated:
        curve = [float(row[METRIC]) for row in validated]
        # Of equals the later, as the weights that are kept.
        best = max(validated, key=lambda row: (float(row[METRIC]), row["step"]))["step"]
        said = f"{curve[0]:.3f} → {curve[-1]:.3f}, best at step {best}"
        yield f"validation {METRIC}", curve, "yellow", said


def _how(lineage: Mapping[str, Any]) -> str:
    """What was special about a training."""
    parts: list[str] = []
    if lineage.get("lora_rank"):
        factor = lineage["recipe"]["lora_rate_factor"]
        parts.append(f"LoRA of rank {lineage['lora_rank']}, learning rates times {factor:g}")
    if lineage.get("processes", 1) > 1:
        parts.append(f"{lineage['processes']} processes")
    if lineage.get("resumed_at"):
        parts.append(f"resumed at step {', '.join(str(step) for step in lineage['resumed_at'])}")
    return "".join(f", {part}" for part in parts)


def _kept(lineage: Mapping[str, Any]) -> str:
    """Which of the weights it is; what was averaged stands with the recipe."""
    if lineage.get("merging") or lineage.get("averaging"):
        return ""
    return f"; the weights of step {lineage['best_step']} are kept"


def _measured(report: RunReport) -> RenderableType:
    metric = report.verdict.metric if report.verdict else "ndcg@10"
    some = next(iter(report.evaluations.values()))
    parts: list[RenderableType] = [
        Text(f"{some.queries:,} test queries, each ranking all {some.corpus:,} texts", style="dim"),
        Text(f"Ranked {some.ranking.said}", style="dim"),
        Text(),
        tables.metrics_table(report.evaluations, report.comparison),
        Text(),
        tables.slices_table(report.evaluations, metric, report.comparison),
        Text(),
        Text(tables.LEGEND if report.comparison else tables.INTERVAL, style="dim"),
    ]
    if report.comparison is not None:
        parts.append(Text(tables.slices_note(report.comparison), style="dim"))
    return Group(*parts)


def _verdict(report: RunReport) -> RenderableType:
    verdict = report.verdict
    if verdict is None:
        return Text()
    reasons = Table.grid(padding=(0, 1, 0, 0))
    for reason in verdict.reasons:
        reasons.add_row(Text("•"), Text(reason))
    parts: list[RenderableType] = [
        Text(verdict.decision.capitalize(), style=_DECISION_STYLES[verdict.decision]),
        reasons,
    ]
    if verdict.findings:
        parts += [Text(), Text(f"All that was looked at ({tables.title_of(verdict.metric)})", style="dim")]
        parts += [findings_table(verdict)]
        if left_out := not_shown(verdict):
            parts.append(Text(left_out, style="dim"))
    general = report.general
    if general is not None and verdict.general_test_set == general.name:
        since = f"{general.queries:,} documentation queries, held constant since {general.since}"
        parts.append(Text(f"The general set {general.name[:12]} is {since}.", style="dim"))
    if online := online_sentence(report.online):
        parts += [Text(), Text(f"Online, by interleaved searches: {online}")]
    return Group(*parts)


def _serving(report: RunReport) -> RenderableType:
    serving = report.serving
    if serving is None:
        return Text()
    recall = (
        "" if serving.recall_at_10 is None else f", recall@10 {serving.recall_at_10:.3f} against exact search"
    )
    return Group(
        Text(
            f"{serving.model.name}   {serving.model.version[:12]}   {serving.model.dims:,} dims", style="bold"
        ),
        Text(f"index version {serving.index_version_id}: {serving.rows:,} texts{recall}"),
    )


def _examples(examples: Sequence[ExampleSearch]) -> RenderableType:
    parts: list[RenderableType] = []
    for example in examples:
        if parts:
            parts.append(Text())
        parts.append(Text(f"“{example.query}”", style="bold"))
        if list(example.before) == list(example.after):
            parts.append(Text("the same results, in the same order:", style="dim"))
            parts += [Text(f"{rank}. {each}") for rank, each in enumerate(example.after, 1)]
            continue
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=True)
        table.add_column("before", ratio=1, overflow="fold")
        table.add_column("after", ratio=1, overflow="fold")
        for row in range(max(len(example.before), len(example.after))):
            table.add_row(_before(example, row), _after(example, row))
        parts.append(table)
    return Group(*parts)


def _before(example: ExampleSearch, row: int) -> Text:
    if row >= len(example.before):
        return Text()
    result = example.before[row]
    return Text(f"{row + 1}. {result}", style="" if result in example.after else "dim")


def _after(example: ExampleSearch, row: int) -> Text:
    if row >= len(example.after):
        return Text()
    result = example.after[row]
    was = list(example.before).index(result) if result in example.before else None
    if was is None:
        return Text.assemble(f"{row + 1}. {result} ", ("new", "green"))
    if was > row:
        return Text.assemble(f"{row + 1}. {result} ", (f"↑{was - row}", "green"))
    return Text(f"{row + 1}. {result}")


def _next(report: RunReport) -> RenderableType:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="green", overflow="fold")
    table.add_column(overflow="fold")
    for command, why in report.next_steps:
        table.add_row(Text(command), Text(why))
    return table


def _grid(*columns: tuple[str, str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title, justify in columns:
        table.add_column(title, justify="right" if justify == "right" else "left")
    return table


def _listed(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {name}" for name, count in ordered)
