"""What people judged, as an experiment: a corpus indexed once, judgements on two sides, held-out queries.

Shared by the benchmarks that learn from judgements. The data are two files of JSON lines in one directory:
`corpus.jsonl` with `{"id", "code"}`, one Python function each, and `feedback.jsonl` with `{"query", "id",
"judgement": "accept"|"reject"}`. They are indexed as any directory is; see `experiments` for the rest.

    data = read_judged(directory)
    with judged_corpus(data, home, progress) as corpus:
        for fold in range(FOLDS):
            learning, held_out = data.sides(seed, fold)
            with corpus.experiment(train_epochs=2) as bench:
                import_judgements(bench, learning)
                trained = train(bench)
                asked = held_out_queries(bench.db, held_out)
                base, new = (measure(bench, each, asked) for each in (base_encoder(bench), trained.encoder))
                print(difference(new, base, "ndcg@10", bench.settings))
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import tempfile
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from assets_tests.benchmarks.experiments import (
    Indexed,
    base_encoder,
    index_sources,
    kept_home,
    read_overrides,
)
from assets_tests.benchmarks.provenance import provenance
from pipeline.config import Settings
from pipeline.errors import BadInputError, HoneloopError
from pipeline.evaluation.evaluating import stored_precision
from pipeline.evaluation.metrics import CUTOFF, query_metrics
from pipeline.evaluation.ranking import RankedQuery, Vectors, rank_items
from pipeline.evaluation.statistics import Difference, paired_difference
from pipeline.evaluation.store import live_hashes
from pipeline.feedback.importing import ImportReport, import_feedback
from pipeline.index.embeddings import count_missing, load_vectors
from pipeline.index.serving import serving_index
from pipeline.progress import Progress
from pipeline.search.hybrid.exactly import search_order
from pipeline.search.hybrid.fusion import MEANING_ALONE, Weights
from pipeline.search.hybrid.line import learn_ranking
from pipeline.search.hybrid.weights import RankingWeights
from pipeline.search.query import search
from pipeline.store.connections import Database
from pipeline.training.copies import copy_groups
from pipeline.training.training_set import build_training_set
from pipeline.workbench import Workbench

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder

REPOSITORY = "judged"
FOLDS = 3
# What tests a model stands outside of its experiment, which holds next to nothing back for a test of its own.
OUTSIDE = {"test_percent": "1"}
HONEST_USERS = 40
Metrics = list[dict[str, float]]
NameUser = Callable[["Judgement"], str | None]


@dataclass(frozen=True)
class Judgement:
    """What somebody said of one function for one query."""

    query: str
    function: int
    judgement: Literal["accept", "reject"]

    @property
    def path(self) -> str:
        """Where the function stands in the source."""
        return path_of(self.function)


@dataclass(frozen=True)
class Judged:
    """Functions by their id, and the judgements of some of them."""

    functions: dict[int, str]
    judgements: tuple[Judgement, ...]

    @cached_property
    def groups(self) -> dict[int, bytes]:
        """What the judged functions share with their near-duplicates."""
        code = {each.function: self.functions[each.function] for each in self.judgements}
        hashes = {number: hashlib.sha256(text.encode()).digest() for number, text in code.items()}
        groups = copy_groups({hashes[number]: text for number, text in code.items()})
        return {number: groups[content_hash] for number, content_hash in hashes.items()}

    def sides(self, seed: int, fold: int) -> tuple[list[Judgement], list[Judgement]]:
        """The judgements to learn from, and those held out: fold `fold` of `FOLDS`.

        The side is a hash of the judged function, or of what it is a near-duplicate of, and of the seed. No
        function stands on both sides, accepted or rejected; nor does a query.

        Raises:
            BadInputError: a query was judged for functions of several folds.
        """
        if not 0 <= fold < FOLDS:
            raise ValueError(f"fold {fold} of {FOLDS}")
        chosen = {
            each: int.from_bytes(hashlib.sha256(b"%d:" % seed + self.groups[each.function]).digest()) % FOLDS
            for each in self.judgements
        }
        learning = [each for each in self.judgements if chosen[each] != fold]
        held_out = [each for each in self.judgements if chosen[each] == fold]
        both = {each.query for each in learning} & {each.query for each in held_out}
        if both:
            raise BadInputError(
                f"{len(both)} queries, {min(both)!r} among them, stand on both sides.",
                hint="Give data in which a query is judged for one function only.",
            )
        return learning, held_out


def path_of(function: int) -> str:
    """The file that holds a function: one each, some hundred to a directory."""
    return f"part_{function // 100:03d}/function_{function}.py"


def read_judged(directory: Path, corpus: int | None = None) -> Judged:
    """Reads the data.

    Args:
        directory: holds `corpus.jsonl` and `feedback.jsonl`.
        corpus: so many functions, all judged ones and, drawn by hash, others; None: all.

    Raises:
        BadInputError: a file is missing or malformed, or a judgement names a function that is not there.
    """
    try:
        functions = {int(row["id"]): str(row["code"]) for row in _rows(directory / "corpus.jsonl")}
        judgements = tuple(
            Judgement(str(row["query"]), int(row["id"]), row["judgement"])
            for row in _rows(directory / "feedback.jsonl")
        )
    except (OSError, KeyError, ValueError) as error:
        raise BadInputError(
            f"The judgements in {directory} cannot be read: {error!r}.",
            hint='Give --data a directory with corpus.jsonl ({"id", "code"}) and feedback.jsonl'
            ' ({"query", "id", "judgement"}).',
        ) from error
    judged = {each.function for each in judgements}
    if unknown := judged - functions.keys():
        raise BadInputError(f"{len(unknown)} judged functions are not in the corpus.")
    others = sorted(functions.keys() - judged, key=lambda each: hashlib.sha256(b"%d" % each).digest())
    if corpus is not None:
        others = others[: max(0, corpus - len(judged))]
    return Judged({number: functions[number] for number in sorted({*judged, *others})}, judgements)


@contextmanager
def judged_corpus(data: Judged, home: Path | None, progress: Progress) -> Generator[Indexed]:
    """The functions indexed under `home`, or under a temporary one if it is None."""
    with kept_home(home) as kept:
        yield index_judged(data, kept, progress)


def index_judged(data: Judged, home: Path, progress: Progress) -> Indexed:
    """Writes the functions into a directory and indexes it, unless `home` has that already."""
    content = json.dumps(list(data.functions.items())).encode()
    source = home / "sources" / hashlib.sha256(content).hexdigest()[:12]
    for number, code in data.functions.items():
        file = source / path_of(number)
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            file.write_text(code, encoding="utf-8")
    return index_sources(home, {REPOSITORY: (str(source), "directory")}, progress)


def import_judgements(
    bench: Workbench, judgements: Iterable[Judgement], user: NameUser | None = None
) -> ImportReport:
    """Imports judgements as `honeloop feedback import` does, all of them or none.

    Args:
        bench: Where.
        judgements: Which.
        user: Names who said so; by default one of `HONEST_USERS`, by the query.

    Raises:
        HoneloopError: a line could not be used.
    """
    named = user or honest_user
    with tempfile.TemporaryDirectory(prefix="honeloop-judged-") as directory:
        file = Path(directory) / "judgements.jsonl"
        with file.open("w", encoding="utf-8") as lines:
            for each in judgements:
                line = {
                    "query": each.query,
                    "repository": REPOSITORY,
                    "path": each.path,
                    "judgement": each.judgement,
                    "user": named(each),
                }
                lines.write(json.dumps(line) + "\n")
        report = import_feedback(bench.db, file)
    if report.rejected:
        raise HoneloopError(f"{report.rejected} of {report.read} judgements were set aside: {report.reasons}")
    return report


def honest_user(judgement: Judgement) -> str:
    """One of many people, who asked this query and judged what they found."""
    digest = hashlib.sha256(judgement.query.encode()).digest()
    return f"honest {int.from_bytes(digest) % HONEST_USERS}"


@dataclass(frozen=True)
class HeldOut:
    """Queries with what answers each, in the order of `hashes`, the corpus; each is ranked over all of it."""

    queries: tuple[str, ...]
    wanted: tuple[RankedQuery, ...]
    hashes: tuple[bytes, ...]


def held_out_queries(db: Database, judgements: Iterable[Judgement]) -> HeldOut:
    """The queries of these judgements for which something was accepted.

    Any snippet of the function's file is the answer, the best-ranked one once, as for `honeloop evaluate`.

    Raises:
        HoneloopError: an accepted function has no snippet in the corpus.
    """
    accepted = [each for each in judgements if each.judgement == "accept"]
    contents = contents_of_files(db, {each.function for each in accepted})
    hashes = live_hashes(db)
    position = {content_hash: number for number, content_hash in enumerate(hashes)}
    items: dict[str, set[tuple[int, ...]]] = {}
    for each in accepted:
        places = sorted(position[content_hash] for content_hash in contents[each.function])
        items.setdefault(each.query, set()).add(tuple(places))
    queries = tuple(sorted(items))
    wanted = tuple(RankedQuery(tuple(sorted(items[query]))) for query in queries)
    return HeldOut(queries, wanted, tuple(hashes))


def contents_of_files(db: Database, functions: Iterable[int]) -> dict[int, set[bytes]]:
    """The contents that each function's file was cut into.

    Raises:
        HoneloopError: a file has none.
    """
    of_path = {path_of(number): number for number in functions}
    with db.connect() as connection:
        rows = connection.execute(
            "SELECT s.path, s.content_hash FROM snippets s JOIN repositories r ON r.id = s.repository_id"
            " WHERE r.name = %s AND s.path = ANY(%s) AND s.vanished_at IS NULL",
            [REPOSITORY, list(of_path)],
        ).fetchall()
    found: dict[int, set[bytes]] = {}
    for path, content_hash in rows:
        found.setdefault(of_path[path], set()).add(bytes(content_hash))
    if missing := of_path.keys() - {path_of(number) for number in found}:
        raise HoneloopError(f"{len(missing)} files have no snippet, {min(missing)} among them.")
    return found


def corpus_vectors(bench: Workbench, encoder: Encoder, hashes: Sequence[bytes]) -> Vectors:
    """The vectors of these contents, shape (n, dims): the stored ones, or as precise as if they were."""
    if count_missing(bench.db, encoder.version) == 0:
        return load_vectors(bench.db, encoder.version, hashes)[1]
    with bench.db.connect() as connection:
        texts = dict(
            connection.execute(
                "SELECT content_hash, text FROM contents WHERE content_hash = ANY(%s)", [list(hashes)]
            ).fetchall()
        )
    with bench.progress.stage(f"Embedding with {encoder.spec.name}", len(hashes)) as advance:
        return stored_precision(encoder.embed_documents([texts[each] for each in hashes], advance))


def measure(
    bench: Workbench,
    encoder: Encoder,
    held_out: HeldOut,
    vectors: Vectors | None = None,
    weights: Weights = MEANING_ALONE,
) -> Metrics:
    """The metrics of each held-out query, in order, over the whole corpus, exactly.

    Args:
        bench: Where the corpus is.
        encoder: Of the queries.
        held_out: The queries.
        vectors: Of `held_out.hashes`; by default `corpus_vectors`.
        weights: What counts beside the cosine, as in searches.
    """
    documents = corpus_vectors(bench, encoder, held_out.hashes) if vectors is None else vectors
    with bench.db.connect() as connection:
        order = search_order(connection, held_out.hashes, documents, weights)
        ranks = rank_items(
            held_out.wanted,
            encoder.embed_queries(held_out.queries),
            documents,
            rescore=None if order is None else order.rescoring(held_out.queries),
        )
    return [
        query_metrics(found, len(wanted.items)) for found, wanted in zip(ranks, held_out.wanted, strict=True)
    ]


def learned_weights(
    indexed: Indexed,
    learning: Iterable[Judgement],
    seed: int,
    overrides: Mapping[str, str] = MappingProxyType({}),
) -> Weights:
    """What words and crowds count in searches by the base model, learned from these judgements."""
    settings = {**OUTSIDE, **overrides, "max_documentation_pairs": 0, "hard_negatives": 0}
    with indexed.experiment(**settings, seed=seed) as bench:
        return learn_from(bench, learning).weights


def learn_from(bench: Workbench, learning: Iterable[Judgement]) -> RankingWeights:
    """Imports the judgements, and learns from them what counts in searches by the base, which serves."""
    import_judgements(bench, learning)
    build_training_set(bench.db, base_encoder(bench), bench.settings, bench.progress)
    return learn_ranking(bench, serving_index(bench.db), bench.progress, changed=True)


def measure_searches(bench: Workbench, encoder: Encoder, judgements: Iterable[Judgement]) -> Metrics:
    """The metrics of each query of `held_out_queries`, in order, as a search finds its answers today.

    That is by the index that serves, with the weight that words have in the ranking, and the first
    `CUTOFF` results only: what stands further down counts as not found.

    Args:
        bench: Where.
        encoder: That of the index that serves.
        judgements: As for `held_out_queries`.
    """
    wanted: dict[str, set[str]] = {}
    for each in judgements:
        if each.judgement == "accept":
            wanted.setdefault(each.query, set()).add(each.path)
    found: Metrics = []
    for query in sorted(wanted):
        answer = search(bench.db, encoder, query, k=CUTOFF, record=False)
        # A function may be shown in parts: its file has the place of the first.
        shown = list(dict.fromkeys(result.path for result in answer.results))
        ranks = [rank for rank, path in enumerate(shown, start=1) if path in wanted[query]]
        found.append(query_metrics(ranks, len(wanted[query])))
    return found


def mean(metrics: Metrics, name: str) -> float:
    """The mean of one metric over all queries."""
    return sum(each[name] for each in metrics) / len(metrics)


def difference(one: Metrics, other: Metrics, name: str, settings: Settings) -> Difference:
    """`one` less `other` over the same queries: paired bootstrap and permutation test."""
    return paired_difference(
        [each[name] for each in one],
        [each[name] for each in other],
        settings.bootstrap_resamples,
        settings.permutations,
        settings.seed,
    )


def parser(description: str | None) -> argparse.ArgumentParser:
    """What every benchmark of judgements can be told: the data, the size of the corpus, seeds, files."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--data", type=Path, required=True, help="The directory with corpus.jsonl and feedback.jsonl."
    )
    made.add_argument("--corpus", type=int, help="So many functions only, all judged ones among them.")
    made.add_argument("--seeds", type=int, nargs="+", default=[17, 18, 19], help="Of split and training.")
    made.add_argument(
        "--home", type=Path, help="Keeps the index and checkpoints there (a short path); else temporary."
    )
    made.add_argument(
        "--set", nargs="+", default=[], metavar="SETTING=VALUE", help="Settings other than the defaults."
    )
    made.add_argument("--json", type=Path, help="A file for the figures.")
    return made


def begin(asked: argparse.Namespace) -> tuple[Judged, dict[str, str], dict[str, Any]]:
    """What `parser` was told: the data, the settings other than the defaults, and figures without a run."""
    overrides = read_overrides(asked.set)
    data = read_judged(asked.data, asked.corpus)
    origin = provenance(asked.seeds, functions=len(data.functions), settings=overrides)
    return data, overrides, {**origin, "runs": []}


def shown(found: Mapping[str, float]) -> str:
    """A `Difference` as it stands among the figures: its mean, and the 95% interval."""
    return f"{found['mean']:+.4f} ({found['low']:+.4f} to {found['high']:+.4f})"


def spread(values: Sequence[float], sign: str = "+") -> str:
    """The mean over seeds, and their standard deviation if there are several."""
    deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{sign}.4f}{deviation}"


def _rows(file: Path) -> list[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]
