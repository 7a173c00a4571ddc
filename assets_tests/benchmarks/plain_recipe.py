"""The plain recipe that Honeloop is measured against: Sentence Transformers as its tutorials use it.

Pairs only, the other snippets of a batch as negatives, one epoch; no hard negatives, no weights, nothing
masked, no validation.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.encoders.quiet import quiet

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from pipeline.encoders.encoder import Encoder

EPOCHS = 1
BATCH_SIZE = 32
LEARNING_RATE = 5e-5
MAX_TOKENS = 128
WARMUP_SHARE = 0.1


def train_plainly(base: Encoder, pairs: Sequence[tuple[str, ...]], seed: int, directory: Path) -> Encoder:
    """`base` after one epoch over `pairs`, saved in `directory` and loaded from there; see `train_model`.

    What is trained is `Encoder.sentence_transformer`, with the dropout of its configuration: 0.1 for MiniLM.
    """
    from transformers import set_seed

    from pipeline.encoders.loading import load_encoder

    with quiet():
        set_seed(seed)
        train_model(base.sentence_transformer(), pairs, seed, directory)
    return load_encoder(str(directory), device=base.device, batch_size=base.batch_size)


def train_model(
    model: SentenceTransformer, pairs: Sequence[tuple[str, ...]], seed: int, directory: Path
) -> None:
    """Trains the model for one epoch over `pairs`, and saves it in `directory`.

    Each is (query, snippet); or, as in `screened_ideas`, each is (query, snippet, a negative for the query).
    """
    from datasets import Dataset
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.trainer import SentenceTransformerTrainer
    from sentence_transformers.sentence_transformer.training_args import SentenceTransformerTrainingArguments
    from transformers.trainer_callback import PrinterCallback

    class Trainer(SentenceTransformerTrainer):
        def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
            """None: nobody reads the card, and it would embed examples to fill itself."""

    # Otherwise the order in which pairs were found, file by file, would matter to the last, small batch.
    mixed = sorted(pairs)
    random.Random(seed).shuffle(mixed)
    with quiet(), tempfile.TemporaryDirectory(prefix="honeloop-plain-") as scratch:
        model.requires_grad_(True)
        whole = model.max_seq_length
        model.max_seq_length = MAX_TOKENS
        columns = dict(
            zip(("query", "snippet", "negative"), map(list, zip(*mixed, strict=True)), strict=False)
        )
        trainer = Trainer(
            model=model,
            args=SentenceTransformerTrainingArguments(
                output_dir=scratch,
                num_train_epochs=EPOCHS,
                per_device_train_batch_size=BATCH_SIZE,
                learning_rate=LEARNING_RATE,
                warmup_steps=WARMUP_SHARE,
                seed=seed,
                use_cpu=model.device.type == "cpu",
                save_strategy="no",
                eval_strategy="no",
                logging_strategy="no",
                report_to=[],
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_dict(columns),
            loss=MultipleNegativesRankingLoss(model),
        )
        trainer.remove_callback(PrinterCallback)  # it prints on stdout
        trainer.train()
        model.max_seq_length = whole
        model.save_pretrained(str(directory), create_model_card=False, safe_serialization=True)
