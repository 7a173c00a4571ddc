"""Fine-tuning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings


class TrainingSettings(BaseSettings):
    """Fine-tuning."""

    recipe: str = Field(
        default="merged",
        description="How to train: words joined by +; `honeloop train --help` lists them.",
    )
    train_epochs: int = Field(default=1, ge=1, description="How often each pair is seen.")
    train_batch_size: int = Field(default=32, ge=2, description="Pairs per optimiser step.")
    train_max_tokens: int = Field(default=128, ge=16, description="Texts are cut off there in training.")
    learning_rate: float = Field(default=5e-5, gt=0, description="At its highest, after the warm-up.")
    warmup_share: float = Field(
        default=0.1, ge=0, le=1, description="Share of the steps in which the learning rate rises."
    )
    max_grad_norm: float = Field(default=1.0, gt=0, description="Longer gradients are cut to this norm.")
    weight_decay: float = Field(
        default=0.0, ge=0, description="How far each step draws the weights to zero (AdamW)."
    )
    dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Costs a fifth of the time; with texts seen once or twice there is little to overfit.",
    )
    temperature: float = Field(
        default=0.05,
        gt=0,
        description="Multiple negatives: cosines are divided by it; lower minds the hardest negatives more.",
    )
    triplet_margin: float = Field(
        default=0.5, gt=0, le=2, description="Triplet: how much nearer in cosine a positive has to be."
    )
    cached_batch_size: int = Field(
        default=256,
        ge=2,
        description="Cached: pairs per optimiser step, in place of TRAIN_BATCH_SIZE. Merged: of feedback.",
    )
    guide: str | None = Field(
        default=None,
        description="Guided: the frozen model, named as for --base; unset: the one that is trained from.",
    )
    guide_margin: float = Field(
        default=0.0,
        ge=0,
        le=2,
        description="Guided: what the guide finds nearer to a query than the positive, less this cosine, is "
        "no negative.",
    )
    matryoshka_halvings: int = Field(
        default=3, ge=1, le=8, description="Matryoshka: 3 trains whole vectors, halves, quarters and eighths."
    )
    first_stage_epochs: int | None = Field(
        default=None, ge=1, description="Two-stage: of documentation and commits; unset: TRAIN_EPOCHS."
    )
    first_stage_batch_size: int | None = Field(
        default=None, ge=2, description="Two-stage, likewise; unset: that of the feedback stage."
    )
    first_stage_learning_rate: float | None = Field(
        default=None, gt=0, description="Two-stage, likewise; unset: LEARNING_RATE."
    )
    feedback_min_pairs: int = Field(
        default=200,
        ge=1,
        description="Merged: with fewer training pairs of feedback, all pairs are learned together only.",
    )
    feedback_epochs: int = Field(
        default=4,
        ge=1,
        description="Merged: how often the part that learns from feedback alone sees each pair.",
    )
    feedback_learning_rate: float = Field(
        default=1e-4, gt=0, description="Merged, likewise: at its highest. Its batches are CACHED_BATCH_SIZE."
    )
    replay_share: float = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="The share of a stage's pairs that come from earlier stages and, if a fine-tuned model "
        "is trained on, from earlier training sets, so that they are not forgotten.",
    )
    averaging_shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        default=(0.2, 0.4, 0.6, 0.8, 1.0),
        min_length=1,
        description="Averaged: shares of the trained weights that are tried, such as [0.5, 1]; the rest is "
        "the base's.",
    )
    averaging_max_loss: float = Field(
        default=0.005,
        ge=0,
        description="Averaged: what a share may lose against the base on the validation pairs of feedback, "
        "and of documentation.",
    )
    early_stopping_patience: int = Field(default=3, ge=1, description="Validations without improvement.")
    early_stopping_tolerance: float = Field(
        default=1.0,
        ge=0,
        description="The last validated weights are kept unless they validate so many standard errors below "
        "the best ones: less is chance. 0: always the best.",
    )
    validations_per_epoch: int = Field(
        default=4, ge=1, description="How often an epoch is interrupted to validate."
    )
    early_stopping_pairs: int = Field(
        default=200, ge=1, description="Validation pairs ranked in each validation, at the most."
    )
    overfitting_loss_rise: float = Field(
        default=0.05,
        ge=0,
        description="Overfitting is reported when the validation loss ends more than this share above its "
        "lowest while the training loss fell.",
    )
    overfitting_metric_drop: float = Field(
        default=0.01, ge=0, description="Likewise when the validation metric ends this far below its best."
    )
    lora_rank: int | None = Field(
        default=None,
        ge=0,
        le=1024,
        description="Rank of the LoRA adapters that are trained instead of the weights; 0: the weights. "
        "Unset: 16 for a large encoder, 0 for others.",
    )
    lora_rate_factor: float = Field(
        default=10.0, gt=0, description="Adapters learn at so many times LEARNING_RATE: they need more."
    )
    large_encoder_parameters: int = Field(
        default=500_000_000, ge=1, description="An encoder with so many parameters or more is a large one."
    )
    gradient_checkpointing: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Compute activations twice instead of keeping them: a third more time, much less memory. "
        "auto: of large encoders on CUDA.",
    )
    train_processes: int = Field(
        default=1,
        ge=0,
        description="Processes that train one model together, a GPU each or sharing the processors, of this "
        "machine or (ENGINE) of a Ray cluster; 0: as many as there are GPUs. The result is the same but for "
        "rounding.",
    )
    state_seconds: float = Field(
        default=120,
        ge=0,
        description="A training's state is saved so often, and at each validation, to be resumed from.",
    )
    state_max_share: float = Field(
        default=0.05, gt=0, le=1, description="Saving it takes this share of the time, at the most."
    )
    state_keep_days: float = Field(
        default=7, ge=0, description="A killed training that is not resumed for so long is given up."
    )
    early_stopping_min_feedback: int | None = Field(
        default=None,
        ge=1,
        description="With so many validation pairs of feedback, those alone decide when to stop and what is "
        "kept; unset: all do.",
    )
    max_loss_rise: float = Field(
        default=1.1, gt=0, description="A run whose last loss is more than this many times its first fails."
    )
    seed: int = Field(
        default=17, description="Of every draw in training and evaluation: the same seed, the same model."
    )
    finetune_disabled: bool = Field(default=False, description="The nightly schedule skips.")
