"""What every model version must do before it may serve: checks on real code that need no labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.encoders.encoder import Encoder
from pipeline.encoders.samples import SAMPLES

Vectors = NDArray[np.float32]

MIN_SAME_COSINE = 0.9999
MAX_RUN_DIFFERENCE = 1e-5
RUNS = 5
MAX_DIFFERENT_COSINE = 0.95
MAX_NORM_ERROR = 1e-3
# Stands in for a figure that cannot be computed; unlike NaN it can be stored as JSON.
_NO_FIGURE = -1.0

_UNUSUAL = {
    "an empty text": "",
    "only white space": " \n\t ",
    "a very long text": "value = compute(value)\n" * 5_000,
    "one endless word": "x" * 20_000,
    "non-ASCII text": "def größe(名前): return 'данные 🐝 مرحبا'",
    "control characters": "a\x00b\x1b[31m\ufeff",
    "half a surrogate pair": "name = '\udc80'",
}


@dataclass(frozen=True)
class SanityResult:
    """One check of an encoder: what was measured, and the limit it had to keep. `value` is always finite."""

    name: str
    passed: bool
    value: float
    limit: float
    message: str


class _Probe:
    """An encoder, with the vectors of the samples computed once for the checks that only look at them."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.texts = [sample.code for sample in SAMPLES]
        self.questions = [sample.documentation for sample in SAMPLES]

    @cached_property
    def documents(self) -> Vectors:
        """Vectors of the samples' code."""
        return self.encoder.embed_documents(self.texts)

    @cached_property
    def alone(self) -> Vectors:
        """The same, each text in a batch of its own."""
        return np.concatenate([self.encoder.embed_documents([text]) for text in self.texts])

    @cached_property
    def queries(self) -> Vectors:
        """Vectors of the samples' documentation."""
        return self.encoder.embed_queries(self.questions)


def check_sanity(encoder: Encoder) -> list[SanityResult]:
    """Runs every check, also after one failed; a check during which the encoder raises has failed.

    Cosines are of unit vectors: that vectors have unit length is a check of its own.
    """
    probe = _Probe(encoder)
    return [_run(name, check, probe) for name, check in _CHECKS.items()]


def _run(name: str, check: Callable[[_Probe], SanityResult], probe: _Probe) -> SanityResult:
    try:
        result = check(probe)
    except Exception as error:  # whatever a model does wrong is a failed check, not the end of the checks
        return SanityResult(name, False, _NO_FIGURE, 0.0, f"the encoder failed: {error!r}")
    if not np.isfinite(result.value):
        return SanityResult(name, False, _NO_FIGURE, result.limit, f"{result.message} (not a number)")
    return result


def _same_text(probe: _Probe) -> SanityResult:
    value = float(np.min(np.sum(probe.alone * probe.documents, axis=1)))
    return SanityResult(
        "same text twice",
        value > MIN_SAME_COSINE,
        value,
        MIN_SAME_COSINE,
        f"the same text alone and among others has cosine {value:.6f} at least",
    )


def _runs(probe: _Probe) -> SanityResult:
    others = [probe.encoder.embed_documents(probe.texts) for _ in range(RUNS - 1)]
    value = max(float(np.max(np.abs(other - probe.documents))) for other in others)
    return SanityResult(
        "repeated runs",
        value <= MAX_RUN_DIFFERENCE,
        value,
        MAX_RUN_DIFFERENCE,
        f"{RUNS} runs over the same texts differ by {value:.1e} at most",
    )


def _different_code(probe: _Probe) -> SanityResult:
    cosines = probe.documents @ probe.documents.T
    value = float(np.max(cosines[~np.eye(len(cosines), dtype=bool)]))
    return SanityResult(
        "different code",
        value < MAX_DIFFERENT_COSINE,
        value,
        MAX_DIFFERENT_COSINE,
        f"two different functions have cosine {value:.3f} at most",
    )


def _documentation(probe: _Probe) -> SanityResult:
    cosines = probe.queries @ probe.documents.T
    nearest = np.argmax(cosines, axis=1)
    wrong = [SAMPLES[i].name for i in range(len(SAMPLES)) if nearest[i] != i]
    value = 1.0 - len(wrong) / len(SAMPLES)
    listed = f"; not of {', '.join(wrong)}" if wrong else ""
    return SanityResult(
        "documentation and code",
        not wrong and bool(np.isfinite(cosines).all()),
        value,
        1.0,
        f"the documentation of {value:.0%} of the functions is nearest to its own{listed}",
    )


def _shape(probe: _Probe) -> SanityResult:
    dims = probe.encoder.dims
    shapes = {
        "documents": (probe.documents.shape, (len(probe.texts), dims)),
        "queries": (probe.queries.shape, (len(probe.questions), dims)),
        "one document": (probe.encoder.embed_documents(probe.texts[:1]).shape, (1, dims)),
        "nothing": (probe.encoder.embed_documents([]).shape, (0, dims)),
    }
    wrong = [f"{name} {found}, expected {due}" for name, (found, due) in shapes.items() if found != due]
    message = "; ".join(wrong) or f"all shapes are (n, {dims})"
    return SanityResult("shape", not wrong, float(len(wrong)), 0.0, message)


def _unit_length(probe: _Probe) -> SanityResult:
    norms = np.linalg.norm(np.concatenate([probe.documents, probe.queries]), axis=1)
    value = float(np.max(np.abs(norms - 1.0)))
    return SanityResult(
        "unit length",
        value < MAX_NORM_ERROR,
        value,
        MAX_NORM_ERROR,
        f"lengths differ from 1 by {value:.1e} at most",
    )


def _finite(probe: _Probe) -> SanityResult:
    value = sum(int(np.sum(~np.isfinite(vectors))) for vectors in (probe.documents, probe.queries))
    return SanityResult("finite", value == 0, float(value), 0.0, f"{value} numbers are NaN or infinite")


def _unusual(probe: _Probe) -> SanityResult:
    encoder = probe.encoder
    wrong: list[str] = []
    for name, text in _UNUSUAL.items():
        try:
            vectors = np.concatenate([encoder.embed_documents([text]), encoder.embed_queries([text])])
        except Exception as error:  # named together with the text that caused it
            wrong.append(f"{name} ({error!r})")
            continue
        norms = np.linalg.norm(vectors, axis=1)
        # NaN compares as false, so it counts as wrong.
        if vectors.shape != (2, encoder.dims) or not bool(np.all(np.abs(norms - 1.0) < MAX_NORM_ERROR)):
            wrong.append(name)
    message = f"not handled: {', '.join(wrong)}" if wrong else f"{len(_UNUSUAL)} unusual texts are handled"
    return SanityResult("unusual text", not wrong, float(len(wrong)), 0.0, message)


def _order(probe: _Probe) -> SanityResult:
    encoder, texts = probe.encoder, probe.texts
    # Repeated, and so that neither length nor order of first appearance is sorted.
    order = [*reversed(range(len(texts))), *range(0, len(texts), 2), 0, 0]
    expected = probe.alone[order]
    given = [texts[i] for i in order]
    streamed = list(encoder.stream_documents(iter(given), chunk_size=3))
    misplaced = 0
    for vectors in (encoder.embed_documents(given), np.concatenate(streamed)):
        if vectors.shape != expected.shape:
            misplaced += len(order)
        else:
            misplaced += int(np.sum(~(np.sum(vectors * expected, axis=1) > MIN_SAME_COSINE)))
    return SanityResult(
        "order and count",
        misplaced == 0,
        float(misplaced),
        0.0,
        f"{misplaced} of {2 * len(order)} vectors are missing or in the wrong place",
    )


_CHECKS: dict[str, Callable[[_Probe], SanityResult]] = {
    "same text twice": _same_text,
    "repeated runs": _runs,
    "different code": _different_code,
    "documentation and code": _documentation,
    "shape": _shape,
    "unit length": _unit_length,
    "finite": _finite,
    "unusual text": _unusual,
    "order and count": _order,
}
