"""Fine-tuning: steps a second and peak memory against the plain Sentence Transformers trainer, same pairs.

Both learn from the same pairs (a function's documentation, and its code without it) with the same base, loss,
batch size and limit of tokens, for one epoch, each in a process of its own; the processes take turns.
Honeloop mines no negatives and does not validate here, as the plain recipe does neither, and neither drops
activations (`DROPOUT`), which costs a fifth of the time: the same work. The plain model is what anybody has
who loads the directory, with nothing of Honeloop's in it. Start-up begins before either has a model.
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets_tests.benchmarks import plain_recipe
from assets_tests.benchmarks.comparing import Comparison, Found, Goal, Size, alone, speed_ratio
from assets_tests.benchmarks.installed_code import real_code

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PAIRS: dict[Size, int] = {"quick": 192, "full": 2000}
ROUNDS: dict[Size, int] = {"quick": 2, "full": 3}
SEED = 17
DROPOUT = 0.0  # Honeloop's default; MiniLM's own is 0.1
WASTE_GOAL = 1.1  # tokens computed for each that says something


@dataclass
class Steps:
    """What `watched` saw of a training.

    Attributes:
        started: when each step began, and `ended`: when it was over.
        computed: tokens that went through the model, padding included.
        useful: those that are of a text.
    """

    started: list[float] = field(default_factory=list[float])
    ended: list[float] = field(default_factory=list[float])
    computed: int = 0
    useful: int = 0

    def saw(self, inputs: object) -> None:
        """Counts the tokens of a batch, however it is nested."""
        if isinstance(inputs, Mapping):
            for name, value in inputs.items():
                if str(name).endswith("attention_mask"):
                    self.computed += value.numel()
                    self.useful += int(value.sum())
                else:
                    self.saw(value)
        elif isinstance(inputs, list | tuple):
            for value in inputs:
                self.saw(value)


def pairs_of(count: int) -> list[tuple[str, str]]:
    """Documentation and undocumented code of so many real functions."""
    found: dict[str, str] = {}
    for code in real_code(8 * count):
        documentation = code.documentation
        if len(documentation.split()) >= 4 and documentation not in found:
            found[documentation] = _undocumented(code.text)
        if len(found) == count:
            break
    return list(found.items())


def _undocumented(text: str) -> str:
    """The text without its docstring: the first triple-quoted string after the head."""
    for quotes in ('"""', "'''"):
        before, found, rest = text.partition(quotes)
        if found and quotes in rest:
            return before.rstrip(" rRuU") + rest.partition(quotes)[2].lstrip()
    return text


def train(who: str, count: int) -> dict[str, Any]:
    """One training, in this process: when its steps were, and what went through the model."""
    from transformers import Trainer

    pairs = pairs_of(count)
    steps = Steps()
    step = Trainer.training_step

    def watched(self: Any, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        steps.started.append(time.perf_counter())
        steps.saw(inputs)
        loss = step(self, model, inputs, *rest, **named)
        steps.ended.append(time.perf_counter())
        return loss

    Trainer.training_step = watched
    with tempfile.TemporaryDirectory(prefix="honeloop-bench-") as scratch:
        began = time.perf_counter()
        try:
            if who == "plain":
                plain_recipe.train_model(plain_model(), pairs, SEED, Path(scratch))
            else:
                _train_ours(pairs, Path(scratch))
        finally:
            Trainer.training_step = step
        ended = time.perf_counter()
    return {
        "steps": len(steps.started),
        "pairs": len(pairs),
        "start_seconds": steps.started[0] - began,
        "step_seconds": steps.ended[-1] - steps.started[0],
        "seconds": ended - began,
        "computed": steps.computed,
        "useful": steps.useful,
    }


def plain_model() -> SentenceTransformer:
    """MiniLM as anybody has it, but for the dropout."""
    from sentence_transformers import SentenceTransformer

    from pipeline.encoders.presets import PRESETS
    from pipeline.encoders.quiet import quiet
    from pipeline.encoders.sources import locate
    from pipeline.training.dropout import set_dropout

    directory = locate(PRESETS["minilm"].members[0]).directory
    with quiet():
        model = SentenceTransformer(str(directory), device="cpu", local_files_only=True)
    set_dropout(model, DROPOUT)
    return model


def _train_ours(pairs: Sequence[tuple[str, str]], work: Path) -> None:
    from pipeline.config import Settings
    from pipeline.encoders.loading import load_encoder
    from pipeline.progress import Silent
    from pipeline.training.fine_tuning import fine_tune
    from pipeline.training.pairs import Pair, TrainingSet

    made = [
        Pair(
            id=number,
            split="train",
            origin="docstring",
            query=query,
            positive_hash=hashlib.sha256(text.encode()).digest(),
            positive_text=text,
            weight=1.0,
            language="python",
            group_key=hashlib.sha256(query.encode()).digest(),
        )
        for number, (query, text) in enumerate(pairs)
    ]
    base = load_encoder("minilm", device="cpu")
    settings = Settings(
        home=work,
        dropout=DROPOUT,
        train_epochs=plain_recipe.EPOCHS,
        train_batch_size=plain_recipe.BATCH_SIZE,
        learning_rate=plain_recipe.LEARNING_RATE,
        train_max_tokens=plain_recipe.MAX_TOKENS,
        max_loss_rise=1e9,  # a few steps say nothing of it
    )
    fine_tune(base, TrainingSet(0, "bench", "bench", base.version, {}, tuple(made)), settings, work, Silent())


def run(size: Size) -> Found:
    """Trains in turns."""
    return measure(PAIRS[size], ROUNDS[size])


def measure(count: int, rounds: int) -> Found:
    """Trains both so often, in turns."""
    found: dict[str, list[dict[str, Any]]] = {"honeloop": [], "plain": []}
    for number in range(rounds):
        for who in ("honeloop", "plain") if number % 2 == 0 else ("plain", "honeloop"):
            done = alone(train, who, count)
            found[who].append({**done.result, "peak_mb": done.peak_mb})

    def median(who: str, what: str) -> float:
        return statistics.median(each[what] for each in found[who])

    def of(what: str) -> tuple[list[float], list[float]]:
        return [each[what] for each in found["honeloop"]], [each[what] for each in found["plain"]]

    rates = {who: median(who, "steps") / median(who, "step_seconds") for who in found}
    waste = {who: median(who, "computed") / median(who, "useful") for who in found}
    lines = [
        Comparison(
            f"fine-tuning on {found['plain'][0]['pairs']} pairs",
            f"{rates['honeloop']:.2f} steps/s",
            f"plain trainer {rates['plain']:.2f} steps/s",
            speed_ratio(*of("step_seconds")),
            Goal(1.0),
        ),
        Comparison(
            "tokens computed for each that says something",
            f"{waste['honeloop']:.3f}",
            f"plain trainer {waste['plain']:.3f}",
            waste["honeloop"],
            Goal(WASTE_GOAL, "at most"),
        ),
        Comparison(
            "peak memory of fine-tuning",
            f"{median('honeloop', 'peak_mb'):,.0f} MB",
            f"plain trainer {median('plain', 'peak_mb'):,.0f} MB",
            median("honeloop", "peak_mb") / median("plain", "peak_mb"),
            Goal(1.0, "at most"),
        ),
        Comparison(
            "start-up of fine-tuning, before its first step",
            f"{median('honeloop', 'start_seconds'):.1f} s",
            f"plain trainer {median('plain', 'start_seconds'):.1f} s",
            speed_ratio(*of("start_seconds")),
        ),
    ]
    return Found(lines, {"rounds": found})
