"""Ideas of which one side look was not enough, over several seeds: prompts, rejects, late interaction.

    python -m assets_tests.benchmarks.screened_ideas --data DIRECTORY
        [--ideas prompts rejects distilled tokens] [--seeds 17 18 19] [--json FILE]

For each seed the judgements are parted as for `judged_learning`; the whole corpus is indexed and ranked, by
meaning alone, and what is trained as searches rank, too. Nothing here is built into Honeloop.

- prompts: words before each query, with the base; nothing is trained.
- rejects: as one negative for each pair of the plain recipe, and pushed away from the query they were
  rejected for (`distilling.push_away`). A query of these data was judged once, so no pair has a reject of its
  own, which the product would take: the nearest snippet that was rejected for another query stands in.
- distilled: late interaction taught to the vectors that are stored (`distilling.distil`), by itself, as the
  base of the plain recipe, and averaged with that. The teacher itself is measured, too.
- tokens: late interaction among a search's candidates, by token vectors as they are, and by such as can be
  stored (`token_vectors`); with the base, and with what Honeloop's default makes of it. By meaning it stands
  beside the cosine alone, as searched beside words and crowds, too. Weights are learned with the base.

What it said on CoSQA stands in docs/learning.md.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from rich.table import Table

from assets_tests.benchmarks.distilling import (
    LATE_WEIGHT,
    average_of,
    distil,
    lists_to_learn,
    push_away,
    teacher_of,
)
from assets_tests.benchmarks.experiments import Indexed, base_encoder, train
from assets_tests.benchmarks.judged import (
    OUTSIDE,
    HeldOut,
    Judged,
    Judgement,
    Metrics,
    begin,
    corpus_vectors,
    difference,
    held_out_queries,
    import_judgements,
    judged_corpus,
    learned_weights,
    mean,
    measure,
    parser,
    spread,
)
from assets_tests.benchmarks.judged_learning import FOLD
from assets_tests.benchmarks.plain_recipe import train_plainly
from assets_tests.benchmarks.provenance import show, write_figures
from assets_tests.benchmarks.token_vectors import Side, Tokens, embedded, kept
from pipeline.evaluation.evaluating import stored_precision
from pipeline.evaluation.metrics import query_metrics
from pipeline.evaluation.ranking import Vectors, rank_items
from pipeline.search.hybrid.fitting import likeliest
from pipeline.search.hybrid.fusion import Weights
from pipeline.terminal import TerminalProgress
from pipeline.training import store
from pipeline.workbench import Workbench

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder

SHOWN = ("ndcg@10", "mrr@10", "recall@10")
PROMPTS = ("query: ", "search_query: ", "python function: ", "code that does: ")
DOCUMENTATION = 150


class Found(NamedTuple):
    """What an arm gave: the metrics of each held-out query, by meaning alone and as searched, if measured."""

    arm: str
    by_meaning: Metrics
    searched: Metrics | None = None


@dataclass
class OfBase:
    """What the base says, whatever the seed; made by the first that asks for it.

    Attributes:
        late: What tokens find, by query, for the whole corpus, times its weight; see `taught`.
        embedded: The corpus by `token_vectors.embedded`, see `tokens`.
    """

    late: dict[str, Vectors] = field(default_factory=dict)
    embedded: tuple[Vectors, Tokens] | None = None


@dataclass(frozen=True)
class Ground:
    """What all arms of one seed share; `of_base` also between seeds."""

    bench: Workbench
    base: Encoder
    data: Judged
    learning: list[Judgement]
    asked: HeldOut
    vectors: Vectors
    weights: Weights
    seed: int
    documentation: int
    directory: Path
    of_base: OfBase

    @cached_property
    def texts(self) -> list[str]:
        """The corpus, in the order of `asked.hashes`."""
        with self.bench.db.connect() as connection:
            contents = store.contents(connection, self.asked.hashes)
        return [contents[each].text for each in self.asked.hashes]

    @property
    def embedded_base(self) -> tuple[Vectors, Tokens]:
        """The corpus by the base and its tokens."""
        if self.of_base.embedded is None:
            self.of_base.embedded = embedded(self.base, self.texts)
        return self.of_base.embedded

    @cached_property
    def accepted(self) -> list[tuple[str, str]]:
        """Query and snippet of each accepted judgement to learn from."""
        return [
            (each.query, self.data.functions[each.function])
            for each in self.learning
            if each.judgement == "accept"
        ]

    @cached_property
    def plain(self) -> Encoder:
        """What the plain recipe makes of the base."""
        return self.plainly(self.base, self.accepted, "plain")

    def plainly(self, base: Encoder, pairs: Sequence[tuple[str, ...]], name: str) -> Encoder:
        """What the plain recipe makes of these pairs, and of this model."""
        return train_plainly(base, pairs, self.seed, self.directory / name)

    @cached_property
    def default(self) -> Encoder:
        """What Honeloop's default makes of the base."""
        import_judgements(self.bench, self.learning)
        return train(self.bench).encoder

    def measured(self, arm: str, encoder: Encoder, vectors: Vectors | None = None) -> Found:
        """A model, over the whole corpus, of which these are its vectors."""
        vectors = corpus_vectors(self.bench, encoder, self.asked.hashes) if vectors is None else vectors
        by_meaning = measure(self.bench, encoder, self.asked, vectors)
        return Found(arm, by_meaning, measure(self.bench, encoder, self.asked, vectors, self.weights))


def prompts(ground: Ground) -> Iterator[Found]:
    """The base, with words before the query."""
    for prompt in PROMPTS:
        asked = replace(ground.asked, queries=tuple(prompt + query for query in ground.asked.queries))
        yield Found(f"prompt {prompt!r}", measure(ground.bench, ground.base, asked, ground.vectors))


def rejects(ground: Ground) -> Iterator[Found]:
    """The plain recipe without what was rejected, and with it in two ways."""
    yield ground.measured("plain", ground.plain)
    yield ground.measured(
        "plain, a rejected snippet as each pair's negative",
        ground.plainly(ground.base, with_rejects(ground), "rejects"),
    )
    functions = ground.data.functions
    judged = [(each.query, functions[each.function], each.judgement == "accept") for each in ground.learning]
    yield ground.measured(
        "plain, rejects pushed away from their query",
        push_away(ground.base, judged, ground.seed, ground.directory / "pushed"),
    )


def with_rejects(ground: Ground) -> list[tuple[str, str, str]]:
    """Each accepted pair, with the snippet nearest to the query that was rejected for another one."""
    functions, groups = ground.data.functions, ground.data.groups
    accepted = [each for each in ground.learning if each.judgement == "accept"]
    rejected = sorted({each.function for each in ground.learning if each.judgement == "reject"})
    queries = ground.base.embed_queries([each.query for each in accepted])
    near = queries @ ground.base.embed_documents([functions[number] for number in rejected]).T
    triples: list[tuple[str, str, str]] = []
    for each, cosines in zip(accepted, near, strict=True):
        order = [rejected[int(place)] for place in np.argsort(-cosines)]
        negative = next(number for number in order if groups[number] != groups[each.function])
        triples.append((each.query, functions[each.function], functions[negative]))
    return triples


def distilled(ground: Ground) -> Iterator[Found]:
    """The teacher, its pupil, and the plain recipe after or beside it."""
    yield Found("late interaction beside the cosine: the teacher", taught(ground))
    lists = lists_to_learn(ground.bench, ground.base, ground.learning, ground.documentation)
    pupil = distil(ground.base, lists, ground.seed, ground.directory / "distilled")
    yield ground.measured("distilled", pupil)
    yield ground.measured(
        "distilled, then plain", ground.plainly(pupil, ground.accepted, "distilled and plain")
    )
    yield ground.measured(
        "distilled, averaged with plain", average_of((pupil, ground.plain), ground.directory / "averaged")
    )


def taught(ground: Ground) -> Metrics:
    """The held-out queries as the teacher ranks the whole corpus.

    What tokens find is looked up for all queries at once, which takes as long as for those of one seed.
    """
    asked, late = ground.asked, ground.of_base.late
    if not late:
        texts = ground.texts
        queries = sorted({each.query for each in ground.data.judgements if each.judgement == "accept"})
        teacher = teacher_of(ground.base, [*queries, *texts], ground.base.max_tokens)
        found = LATE_WEIGHT * teacher.both(queries, texts)[1].numpy()
        late.update(zip(queries, found, strict=True))
    ranks = rank_items(
        asked.wanted,
        ground.base.embed_queries(asked.queries),
        ground.vectors,
        rescore=lambda number, cosines: cosines + late[asked.queries[number]],
    )
    return [query_metrics(each, len(wanted.items)) for each, wanted in zip(ranks, asked.wanted, strict=True)]


def tokens(ground: Ground) -> Iterator[Found]:
    """Late interaction beside the rest, by the base and by the default's model."""
    bench, asked = ground.bench, ground.asked
    learning = held_out_queries(bench.db, ground.learning)
    learned: dict[tuple[str, bool], list[float]] = {}
    for name in ("base", "default"):
        encoder = ground.base if name == "base" else ground.default
        whole, words = ground.embedded_base if name == "base" else embedded(encoder, ground.texts)
        vectors = stored_precision(whole)
        if name == "default":
            yield ground.measured(name, encoder, vectors)
        sides = [Side(bench, encoder, each, vectors) for each in (learning, asked)]
        for way, few in kept(words).items():
            found: list[Metrics] = []
            for alone in (True, False):
                if name == "base":
                    told = sides[0].beside(few, alone=alone)
                    learned[way, alone] = likeliest([each.judged for each in told])
                found.append(sides[1].measured(few, learned[way, alone], alone=alone))
            yield Found(f"{name}, {way}", *found)


IDEAS: dict[str, Callable[[Ground], Iterator[Found]]] = {
    "prompts": prompts,
    "rejects": rejects,
    "distilled": distilled,
    "tokens": tokens,
}


def run(
    indexed: Indexed,
    data: Judged,
    seed: int,
    overrides: dict[str, str],
    *,
    ideas: Sequence[str],
    documentation: int,
    of_base: OfBase,
) -> dict[str, Any]:
    """The figures of one seed."""
    learning, held_out = data.sides(seed, FOLD)
    weights = learned_weights(indexed, learning, seed, overrides)
    with (
        indexed.experiment(**{**OUTSIDE, **overrides}, seed=seed) as bench,
        tempfile.TemporaryDirectory(prefix="honeloop-screened-") as directory,
    ):
        base, asked = base_encoder(bench), held_out_queries(bench.db, held_out)
        vectors = corpus_vectors(bench, base, asked.hashes)
        ground = Ground(
            bench,
            base,
            data,
            learning,
            asked,
            vectors,
            weights,
            seed,
            documentation,
            Path(directory),
            of_base,
        )
        before = ground.measured("base", base)
        told: dict[str, Any] = {
            "seed": seed,
            "queries": len(asked.queries),
            "weights": weights._asdict(),
            "arms": {before.arm: _figures(before, before, bench)},
        }
        for idea in ideas:
            started = time.monotonic()
            for found in IDEAS[idea](ground):
                figures = _figures(found, before, bench)
                figures["seconds"] = round(time.monotonic() - started, 1)
                told["arms"][found.arm] = figures
                bench.progress.note(
                    f"Seed {seed}, {found.arm}: {figures['over base']['mean']:+.4f}, {figures['seconds']} s."
                )
                started = time.monotonic()
    return told


def _figures(found: Found, before: Found, bench: Workbench) -> dict[str, Any]:
    def over_base(metrics: Metrics) -> dict[str, Any]:
        return asdict(difference(metrics, before.by_meaning, "ndcg@10", bench.settings))

    return {
        **{name: mean(found.by_meaning, name) for name in SHOWN},
        "over base": over_base(found.by_meaning),
        "searched over base": None if found.searched is None else over_base(found.searched),
    }


def table(figures: dict[str, Any]) -> Table:
    """A row for each arm: what it gains by seed, the mean, and the mean as searches rank."""
    runs = figures["runs"]
    made = Table(title="Held-out queries, nDCG@10 over the base by meaning alone; ± standard deviation")
    for heading in ("", *(f"seed {each['seed']}" for each in runs), "mean", "as searched"):
        made.add_column(heading)
    for arm in runs[0]["arms"]:
        gains = [each["arms"][arm]["over base"]["mean"] for each in runs]
        searched = [each["arms"][arm]["searched over base"] for each in runs]
        made.add_row(
            arm,
            *(f"{gain:+.4f}" for gain in gains),
            spread(gains),
            "" if None in searched else spread([each["mean"] for each in searched]),
        )
    levels = [each["arms"]["base"]["ndcg@10"] for each in runs]
    made.caption = f"base {statistics.mean(levels):.4f}"
    return made


def main(words: Sequence[str] | None = None) -> None:
    """See the module's docstring."""
    arguments = parser(__doc__)
    arguments.add_argument(
        "--ideas", nargs="+", choices=tuple(IDEAS), default=list(IDEAS), help="These alone."
    )
    arguments.add_argument(
        "--documentation", type=int, default=DOCUMENTATION, help="Queries out of documentation, distilled."
    )
    asked = arguments.parse_args(words)
    data, overrides, figures = begin(asked)
    figures["queries of documentation"] = asked.documentation
    with TerminalProgress() as progress, judged_corpus(data, asked.home, progress) as indexed:
        of_base = OfBase()
        for seed in asked.seeds:
            found = run(
                indexed,
                data,
                seed,
                overrides,
                ideas=asked.ideas,
                documentation=asked.documentation,
                of_base=of_base,
            )
            figures["runs"].append(found)
            write_figures(asked.json, figures)
    show(table(figures))


if __name__ == "__main__":
    main()
