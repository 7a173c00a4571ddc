"""How far the intervals, the tests and the gate keep what they promise, by simulation.

    python -m assets_tests.benchmarks.evaluation_statistics [--trials 2000]

Drawn are nDCG@10 as real ones are spread: an answer stands at rank 1 for about a third of the queries, beyond
10 for about a third, and between for the rest; of 100 queries 45 are ranked anew by another model, up or down
alike, or a little more often up. The truth is known, so what holds and what alarms can be counted.

Equal models, 2,000 samples of each size (standard error 0.005); promised are 0.95 and 0.05:

    queries  95% interval holds  bootstrap test alarms  permutation test alarms
         30               0.913                  0.070                    0.050
         50               0.937                  0.052                    0.049
        100               0.942                  0.054                    0.051
        500               0.939                  0.060                    0.057

So the percentile interval is a little too narrow, at 30 queries by four points, and the permutation test is
what it says at every size. That is why the gate asks both, and why a slice decides nothing below 30 queries.

The gate on 500 queries with 15 large slices, 300 verdicts each. Of the candidates whose gain was proven, the
share that a slice vetoed, uncorrected and by Holm's method:

    true gain  harm in one of 8 repositories  gain proven  vetoed: none   holm
       0.0000  none (1,000 verdicts)                0.022         0.045  0.045
       0.0051  none                                 0.063         0.053  0.000
       0.0100  none                                 0.113         0.029  0.000
       0.0254  none                                 0.380         0.018  0.000
       0.0509  none                                 0.940         0.007  0.000
       0.0509  3 of 10 queries fall to 15th         0.450         0.422  0.081
       0.0509  6 of 10 queries fall to 15th         0.097         0.966  0.759

Uncorrected, few good candidates are refused by a false alarm, and more of the harmful ones are caught than
with the correction: that is the default. On 500 queries a gain of five points is nearly always proven, one of
half a point hardly ever.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assets_tests.evaluation.made import CANDIDATE, SERVING, content
from pipeline.config import Settings
from pipeline.encoders.sanity import SanityResult
from pipeline.evaluation.metrics import query_metrics
from pipeline.evaluation.permutation import sign_flip_test
from pipeline.evaluation.results import Evaluation, QueryResult
from pipeline.evaluation.statistics import paired_bootstrap
from pipeline.promotion.gate import GateThresholds, Measurements, Verdict, decide

MOVING = 0.45  # share of queries whose rank moves
SIZES = (30, 50, 100, 500)
REPOSITORIES, LANGUAGES = 8, 3
# Share of queries in which the candidate wins, and share of one repository's in which it fails.
SCENARIOS = ((0.0, 0.0), (0.1, 0.0), (0.25, 0.0), (0.5, 0.0), (0.5, 0.3), (0.5, 0.6))
_SOUND = [SanityResult(name="finite", passed=True, value=0.0, limit=0.0, message="no NaN")]
_RANKS = np.array([1, 2, 3, 4, 5, 6, 8, 10, 15, 40, 200])
_SHARES = np.array([0.34, 0.12, 0.07, 0.05, 0.04, 0.03, 0.03, 0.02, 0.1, 0.1, 0.1])


@dataclass(frozen=True)
class Population:
    """All the queries there are: their ranks under two models. The true difference is their mean's."""

    serving: NDArray[np.int64]
    candidate: NDArray[np.int64]

    @property
    def differences(self) -> NDArray[np.float64]:
        """Candidate − serving in nDCG@10, one a query."""
        return gains(self.candidate) - gains(self.serving)


def gains(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """nDCG@10 of queries with a single answer at these ranks."""
    return np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0.0)


def population(seed: int, size: int = 200_000, better: float = 0.0) -> Population:
    """Two models over many queries: equally good, but for a share `better` in which the candidate wins.

    With `better` 0 the two are drawn alike and half of the moved queries swapped, so that their means are
    equal exactly and not only by chance.
    """
    random = np.random.default_rng(seed)
    serving = random.choice(_RANKS, size // 2, p=_SHARES)
    moves = random.random(size // 2) < MOVING
    candidate = np.where(moves, random.choice(_RANKS, size // 2, p=_SHARES), serving)
    one, other = np.concatenate([serving, candidate]), np.concatenate([candidate, serving])
    lifted = random.random(len(one)) < better
    return Population(one, np.where(lifted, np.minimum(one, other), other))


@dataclass(frozen=True)
class Kept:
    """Of many samples of one size: how often the interval held the truth, and how often each test alarmed."""

    queries: int
    coverage: float
    bootstrap: float
    permutation: float


def keeps(truth: Population, queries: int, trials: int, settings: Settings) -> Kept:
    """Coverage of the 95% interval, and the shares of p-values below 0.05."""
    differences = truth.differences
    mean = float(differences.mean())
    held = bootstrap = permutation = 0
    random = np.random.default_rng(queries)
    for trial in range(trials):
        sample = differences[random.integers(0, len(differences), queries)]
        found = paired_bootstrap(sample, np.zeros(queries), settings.bootstrap_resamples, trial)
        held += found.low <= mean <= found.high
        bootstrap += found.p_value < 0.05
        permutation += sign_flip_test(sample, settings.permutations, trial) < 0.05
    return Kept(queries, held / trials, bootstrap / trials, permutation / trials)


def verdicts(
    truth: Population, queries: int, trials: int, settings: Settings, *, harm: float = 0.0, seed: int = 1
) -> list[Verdict]:
    """What the gate says of samples whose queries stand in 8 repositories and 3 languages, of all lengths.

    In repository r0 the candidate has, for a share `harm` of the queries, the worse of both ranks or rank 15.
    """
    thresholds = GateThresholds.from_settings(settings)
    random = np.random.default_rng(seed)
    found: list[Verdict] = []
    for _ in range(trials):
        chosen = random.integers(0, len(truth.serving), queries)
        repositories = random.integers(REPOSITORIES, size=queries)
        languages, words = random.integers(LANGUAGES, size=queries), random.integers(1, 25, size=queries)
        places = [
            (f"r{repository}", f"l{language}", int(count))
            for repository, language, count in zip(repositories, languages, words, strict=True)
        ]
        ranks = truth.candidate[chosen]
        harmed = (repositories == 0) & (random.random(queries) < harm)
        ranks = np.where(harmed, np.maximum(ranks, 15), ranks)
        serving = _evaluation(SERVING, truth.serving[chosen], places)
        candidate = _evaluation(CANDIDATE, ranks, places)
        found.append(decide(Measurements(candidate, serving, serving), thresholds, _SOUND))
    return found


@dataclass(frozen=True)
class Said:
    """Of many verdicts: the shares approved, with the gain proven, and vetoed by a slice among those."""

    approved: float
    proven: float
    vetoed: float
    slices: float

    @classmethod
    def of(cls, given: Sequence[Verdict]) -> Said:
        """What these verdicts came to."""
        proven = [each for each in given if each.findings[0].passed]
        vetoed = [each for each in proven if any(f.is_slice and not f.passed for f in each.findings)]
        slices = [sum(f.is_slice and f.decides for f in each.findings) for each in given]
        return cls(
            approved=sum(each.approved for each in given) / len(given),
            proven=len(proven) / len(given),
            vetoed=len(vetoed) / len(proven) if proven else 0.0,
            slices=float(np.mean(slices)),
        )


def _evaluation(version: str, ranks: NDArray[np.int64], places: list[tuple[str, str, int]]) -> Evaluation:
    results = tuple(
        QueryResult(
            query_key=content(f"query {number}"),
            query=f"query {number}",
            origin="docstring",
            language=language,
            rank=int(rank),
            metrics=query_metrics([int(rank)], 1),
            repository=repository,
            words=words,
        )
        for number, (rank, (repository, language, words)) in enumerate(zip(ranks, places, strict=True))
    )
    return Evaluation(0, version, "ab" * 32, len(results), 1000, {}, {}, results)


def main() -> None:
    """Prints the figures of this module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--verdicts", type=int, default=300)
    asked = parser.parse_args()
    settings = Settings(bootstrap_resamples=1000, permutations=1000)
    equal = population(1)
    print(f"Equal models, {asked.trials:,} samples of each size; promised: 0.95 and 0.05")
    for queries in SIZES:
        kept = keeps(equal, queries, asked.trials, settings)
        print(
            f"  {queries:4} queries: interval holds {kept.coverage:.3f}, bootstrap alarms "
            f"{kept.bootstrap:.3f}, permutation alarms {kept.permutation:.3f}"
        )
    print(f"The gate on 500 queries, {asked.verdicts:,} verdicts each")
    for better, harm in (
        (0.0, 0.0),
        (0.05, 0.0),
        (0.1, 0.0),
        (0.25, 0.0),
        (0.5, 0.0),
        (0.5, 0.3),
        (0.5, 0.6),
    ):
        truth = population(2, better=better)
        for correction in ("none", "holm"):
            corrected = settings.model_copy(update={"gate_slice_correction": correction})
            said = Said.of(verdicts(truth, 500, asked.verdicts, corrected, harm=harm))
            print(
                f"  true gain {truth.differences.mean():+.4f}, harm in one repository {harm:.1f}, "
                f"{said.slices:.0f} slices, correction {correction}: gain proven {said.proven:.3f}, of those "
                f"vetoed by a slice {said.vetoed:.3f}, approved {said.approved:.3f}"
            )


if __name__ == "__main__":
    main()
