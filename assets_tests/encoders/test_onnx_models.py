"""`honeloop models export` on each kind of model there is: what it exports computes torch's vectors."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from typer.testing import CliRunner

from assets_tests.training.conftest import click_pairs, click_set, trained
from pipeline.cli import app
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.encoders.loading import load_as_set, load_encoder
from pipeline.training.checkpoints import write_checkpoint
from pipeline.training.fine_tuning import FineTuned
from pipeline.training.pairs import TrainingSet

__all__ = ["click_pairs", "click_set", "trained"]

# None of them is among what the command itself compares by, and none has another's length.
TEXTS = (
    "",
    " ",
    ";",
    "how to merge two sorted lists",
    "def first(rows):\n    return next(iter(rows), None)\n",
    "für jede Zeile: naïve Größe, Ångström und „Anführung“",
    "文字列を逆順にする関数を探しています",
    "функция, которая читает файл построчно",
    "مرتب‌سازی فهرست اعداد",
    "🦀 = '👩\u200d💻'; assert len(🦀) > 1",
    "x" * 3_000,
    "for name, value in sorted(table.items()):\n    print(name, value, sep='\\t')\n" * 120,
)


@pytest.fixture
def checkpoint(
    trained: tuple[FineTuned, Settings], minilm: Encoder, click_set: TrainingSet, settings: Settings
) -> str:
    """Where a model fine-tuned from MiniLM lies."""
    return str(write_checkpoint(trained[0], minilm, click_set, settings.checkpoints_path).path)


def lowest_cosine(one: Encoder, other: Encoder, texts: Sequence[str] = TEXTS) -> float:
    """Of the two vectors of a text, over all texts in both roles."""
    pairs = (
        (one.embed_queries(texts), other.embed_queries(texts)),
        (one.embed_documents(texts), other.embed_documents(texts)),
    )
    return min(float(np.sum(a.astype(np.float64) * b.astype(np.float64), axis=1).min()) for a, b in pairs)


@pytest.mark.usefixtures("small_hub")
@pytest.mark.parametrize(
    "kind",
    [
        "minilm",
        # A decoder: causal attention, and the last token's vector, which padding must not be taken for.
        pytest.param("qodo", marks=pytest.mark.slow),
        pytest.param("checkpoint", marks=pytest.mark.slow),
    ],
)
def test_what_is_exported_computes_torchs_vectors(
    kind: str, settings: Settings, request: pytest.FixtureRequest
) -> None:
    settings = settings.model_copy(update={"device": "cpu"})
    source = request.getfixturevalue(kind) if kind == "checkpoint" else kind
    by_torch = load_encoder(source, device="cpu")
    assert by_torch.backends == ("torch",)
    runner = CliRunner(
        env={
            "HONELOOP_HOME": str(settings.home),
            "HONELOOP_DATABASE_URL": settings.database_url,
            "HONELOOP_DEVICE": "cpu",
        }
    )

    done = runner.invoke(app, ["models", "export", source, "--onnx", "--json"])

    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["model_version"] == by_torch.version
    exported = load_as_set(source, settings)
    assert (exported.backends, exported.version) == (("onnx",), by_torch.version)
    assert lowest_cosine(by_torch, exported) >= 0.9999
    # A text's vector does not depend on the batch it is in.
    alone = np.concatenate([exported.embed_documents([text]) for text in TEXTS])
    assert float(np.abs(alone - exported.embed_documents(TEXTS)).max()) < 1e-5
    # The comparison can tell: other texts have other vectors.
    assert lowest_cosine(by_torch, exported, TEXTS[3:5]) > 0.9999
    crossed = by_torch.embed_documents(TEXTS[3:4]) @ exported.embed_documents(TEXTS[4:5]).T
    assert float(crossed[0, 0]) < 0.99
