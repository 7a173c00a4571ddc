"""One typed settings object: every threshold, path and switch, with its environment variable.

Each field is read from `HONELOOP_<FIELD IN UPPER CASE>`; `honeloop status --json` shows the values in force.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, field_serializer, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT_ROOT = Path(__file__).resolve().parents[1]


class Settings(BaseSettings):
    """Everything that can be set. Immutable: make another with `model_copy(update=...)`."""

    model_config = SettingsConfigDict(env_prefix="HONELOOP_", frozen=True, extra="ignore")

    # Where things live
    home: Path = Field(default=Path(".honeloop"), description="All state: database, checkpoints, logs.")
    database_url: str | None = Field(
        default=None, description="postgresql://… of your own server; unset: the embedded one under home."
    )
    database_patience_seconds: float = Field(
        default=60, ge=0, description="A run waits so long for a database that went away, and then goes on."
    )

    # Encoder
    encoder: str = Field(
        default="minilm", description="Base encoder: a preset, a directory, or hub-name@revision."
    )
    device: str | None = Field(default=None, description="cuda, mps or cpu; unset: the best that torch has.")
    backend: Literal["auto", "torch"] = Field(
        default="auto",
        description="auto: on the CPU, models that were exported (`honeloop models export`) are computed by "
        "ONNX Runtime; torch: all are computed by torch.",
    )
    onnx_min_cosine: float = Field(
        default=0.9999,
        ge=0.9999,
        le=1,
        description="An export whose vectors are further from torch's is another model, and is refused.",
    )
    embed_batch_size: int = Field(default=16, ge=1, description="Texts per forward pass when embedding.")
    embed_chunk_size: int = Field(
        default=2048, ge=1, description="Texts held in memory at once while embedding."
    )

    # Corpus
    max_file_bytes: int = Field(
        default=1_000_000, ge=1, le=100_000_000, description="Larger files are skipped, and counted."
    )
    parse_seconds: float = Field(
        default=10,
        gt=0,
        description="Processor time that parsing one file may take. A file that takes more is skipped, and "
        "counted; its earlier snippets stay.",
    )
    parse_memory_mb: int = Field(default=1000, ge=50, description="Memory likewise, on Linux.")
    parse_processes: int | None = Field(
        default=None,
        ge=1,
        description="Processes that parse side by side, each within these limits; unset: one per processor.",
    )
    find_secrets: bool = Field(
        default=True,
        description="Keys, tokens and passwords in code are recognised, and left out of all that is stored.",
    )
    secret_rules: Path | None = Field(
        default=None, description="A file of further rules to recognise them by, in Kingfisher's form."
    )
    fetch_timeout_seconds: int = Field(
        default=60, ge=1, description="A git server that stays silent for this long is unreachable."
    )
    max_parse_error_share: float = Field(
        default=0.2, ge=0, le=1, description="Check: share of files with syntax errors a repository may have."
    )
    max_snippet_drop_share: float = Field(
        default=0.5, ge=0, le=1, description="Check: share of its snippets a repository may lose in one go."
    )

    # Index
    hnsw_m: int = Field(default=16, ge=2, le=100, description="Links of a row in HNSW.")
    hnsw_ef_construction: int = Field(
        default=100,
        ge=4,
        le=1000,
        description="Candidates that they are chosen from, up to 100,000 rows; twice as many up to a "
        "million, and so on.",
    )
    hnsw_ef_search: int = Field(
        default=100, ge=1, le=1000, description="Breadth of an HNSW search; more where recall asks for it."
    )
    hnsw_max_ef_search: int = Field(
        default=1000, ge=1, le=1000, description="So broad a search at the most: time grows with it."
    )
    min_recall: float = Field(
        default=0.95, ge=0, le=1, description="recall@10 of HNSW against exact search, or it does not serve."
    )
    target_recall: float = Field(
        default=0.97, ge=0, le=1, description="The search is broadened until its recall@10 reaches this."
    )
    recall_sample: int = Field(default=200, ge=1, description="Queries used to measure that recall.")
    maintenance_work_mem: str | None = Field(
        default=None,
        description="Memory Postgres may use to build HNSW, such as 2GB; unset: a quarter of this machine's, "
        "at least 1GB, if the graph needs it; 1GB on a server of your own.",
    )
    index_build_workers: int = Field(
        default=2, ge=0, le=64, description="Parallel workers Postgres may use to build HNSW."
    )
    in_place_share: float = Field(
        default=0.2, ge=0, le=1, description="Up to this share of new rows, the serving index is extended."
    )
    keep_retired_indexes: int = Field(default=2, ge=1, description="Index versions kept for rollback.")

    # Feedback and training set
    min_pairs: int = Field(default=100, ge=1, description="Fewer real pairs than this: training fails.")
    positive_confidence: float = Field(default=0.7, ge=0, le=1, description="A positive is above this.")
    imported_click_confidence: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="An imported click has no rank: it counts as one at ranks 4–6, which makes no positive. "
        "Set 0.8 when the export holds clicks at ranks 1–3 only.",
    )
    max_user_pairs_per_snippet: int = Field(
        default=1,
        ge=1,
        description="How often one person's repeated judgement of a snippet for the same query counts.",
    )
    max_user_share: float = Field(default=0.5, gt=0, le=1, description="Cap of one person on all feedback.")
    max_user_snippet_weight: float = Field(
        default=5.0,
        gt=0,
        description="What one person's pairs of one snippet weigh together, at the most, whatever they "
        "asked; those without a name count as one person here.",
    )
    max_rejected_per_pair: int = Field(
        default=8, ge=1, description="Rejected snippets that a pair takes as negatives, at the most."
    )
    propensity_max_rank: int = Field(
        default=10,
        ge=2,
        le=100,
        description="Down to here the data are asked how likely a rank is looked at.",
    )
    propensity_min_ranks: int = Field(
        default=6, ge=2, le=100, description="Clicks are corrected by it once it is known to this rank."
    )
    propensity_min_clicks: int = Field(
        default=200,
        ge=1,
        description="That needs so many chosen snippets per rank that stood at another rank, too.",
    )
    max_propensity_correction: float = Field(
        default=5.0, ge=1, description="A click stands for so many that were never made, at the most."
    )
    search_retention_days: int = Field(
        default=180, ge=1, description="Searches older than this are deleted, or lose their names if judged."
    )
    max_documentation_pairs: int = Field(
        default=1500, ge=0, description="Training pairs taken from documentation, at the most."
    )
    documentation_weight: float = Field(
        default=0.95, gt=0, le=1, description="Weight of a documentation pair; an accepted snippet has 0.95."
    )
    max_test_documentation_pairs: int = Field(default=500, ge=1)
    max_validation_documentation_pairs: int = Field(default=200, ge=1)
    max_commits: int = Field(
        default=2000,
        ge=0,
        description="Newest commits of a git repository that are looked at for pairs; what was found stays.",
    )
    max_commit_functions: int = Field(
        default=3, ge=1, description="A commit that changes more functions says little about each of them."
    )
    max_commit_files: int = Field(
        default=20, ge=1, description="A commit that touches more files is a bulk change."
    )
    min_commit_change: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Share of a long function that a commit has to have changed; less is a detail of it.",
    )
    min_commit_likeness: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="How like what the commit left a function still has to be; else the message is outdated.",
    )
    commit_weight: float = Field(
        default=0.5,
        gt=0,
        le=0.7,
        description="Weight of a commit, shared by its functions; feedback that makes a pair has more.",
    )
    max_commit_pairs: int = Field(
        default=1000, ge=0, description="Training pairs taken from commits, at the most."
    )
    max_test_commit_pairs: int = Field(default=200, ge=0)
    max_validation_commit_pairs: int = Field(default=100, ge=0)
    validation_percent: int = Field(default=10, ge=1, le=45)
    test_percent: int = Field(default=20, ge=1, le=45)
    hard_negatives: int = Field(default=1, ge=0, le=8, description="Mined negatives per pair.")
    hard_negative_max_ratio: float = Field(
        default=0.95,
        gt=0,
        le=1,
        description="A mined negative scores below this share of its positive's score: a false negative "
        "hurts more than a hard one helps.",
    )
    hard_negative_pool: int = Field(default=50, ge=1, description="Nearest neighbours looked at per query.")

    # Fine-tuning
    recipe: str = Field(
        default="multiple-negatives",
        description="How to train: words joined by +; `honeloop train --help` lists them.",
    )
    train_epochs: int = Field(default=1, ge=1, description="How often each pair is seen.")
    train_batch_size: int = Field(default=32, ge=2, description="Pairs per optimiser step.")
    train_max_tokens: int = Field(default=128, ge=16, description="Texts are cut off there in training.")
    learning_rate: float = Field(default=5e-5, gt=0, description="At its highest, after the warm-up.")
    warmup_share: float = Field(default=0.1, ge=0, le=1)
    max_grad_norm: float = Field(default=1.0, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
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
        default=256, ge=2, description="Cached: pairs per optimiser step, in place of TRAIN_BATCH_SIZE."
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
    validations_per_epoch: int = Field(default=4, ge=1)
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
        description="Processes that train one model together, a GPU each or sharing the processors; 0: as "
        "many as there are GPUs. The result is the same but for rounding.",
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
    seed: int = Field(default=17)
    finetune_disabled: bool = Field(default=False, description="The nightly schedule skips.")

    # Evaluation and gate
    bootstrap_resamples: int = Field(default=2000, ge=100, description="For each confidence interval.")
    permutations: int = Field(
        default=10_000, ge=1000, description="Draws of signs for each permutation test's p-value."
    )
    keep_test_sets: int = Field(
        default=50, ge=1, description="Frozen test sets kept; those behind a model in use stay anyway."
    )
    gate_metric: str = Field(default="ndcg@10", description="The primary metric: what a gain is measured in.")
    gate_min_queries: int = Field(default=50, ge=1, description="Fewer test queries: not enough evidence.")
    gate_significance: float = Field(
        default=0.05, gt=0, le=0.5, description="A permutation test's p-value must be below this."
    )
    gate_min_improvement: float = Field(
        default=0.01,
        ge=0,
        description="A smaller mean gain does not matter, however certain: with thousands of queries almost "
        "any is.",
    )
    gate_max_slice_regression: float = Field(
        default=0.02, ge=0, description="No large slice may significantly lose more than this on average."
    )
    gate_slice_min_queries: int = Field(
        default=30, ge=1, description="A slice with fewer test queries is shown and decides nothing."
    )
    gate_slice_correction: Literal["none", "holm"] = Field(
        default="none",
        description="Of the many tests for harm in slices: none (each alarm counts) or holm (fewer false "
        "alarms, and harm that is missed).",
    )
    gate_max_general_regression: float = Field(
        default=0.005,
        ge=0,
        description="The general set may not lose more than this on average against the base, chance or not.",
    )
    general_min_queries: int = Field(
        default=50, ge=1, description="A general set with fewer queries cannot tell, and is replaced."
    )
    gate_floors: dict[str, float] = Field(
        default={"recall@100": 0.3},
        description="Metrics that a candidate may not be below, whatever it is compared with.",
    )
    interleaving_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the searches through the service and agents whose results are drafted from two "
        "models, once `honeloop interleave` has chosen the other; 0: none.",
    )
    interleaving_patience_ms: int = Field(
        default=200,
        ge=1,
        description="So long such a search waits for each step of the other model, at the most; then what "
        "serves answers alone.",
    )
    interleaving_min_searches: int = Field(
        default=100, ge=1, description="Fewer decided interleaved searches: not enough online evidence."
    )
    min_metric: float = Field(
        default=0.1, ge=0, le=1, description="Check: a candidate below this in the gate's metric is broken."
    )
    max_validation_drop: float = Field(
        default=0.05, ge=0, le=1, description="Check: what the best validation may lose against the base."
    )

    # Automation
    early_finetune_pairs: int = Field(default=1000, ge=1, description="New eligible pairs that start one.")
    nightly_min_pairs: int = Field(default=20, ge=1, description="Fewer new pairs: the night is skipped.")
    timezone: str = Field(default="UTC", description="Where it is night: the IANA name of a time zone.")
    new_commits_seconds: int = Field(
        default=300, ge=30, description="How often each source is asked whether it has something new."
    )
    new_commits_timeout_seconds: int = Field(
        default=10,
        ge=1,
        le=30,
        description="So long the sources asked in one tick have for their answers, all together.",
    )
    recheck_hours: int = Field(
        default=24,
        ge=1,
        description="Sources are read and the serving index is verified again at least so often, even if "
        "nothing seems to have changed.",
    )
    stale_after_hours: int = Field(
        default=72,
        ge=2,
        description="Freshness: snippets or the index not materialized for so long are overdue; warned of "
        "after half of it.",
    )
    model_stale_after_days: int = Field(
        default=60,
        ge=1,
        description="Freshness: no fine-tuning for so long is overdue; warned of after half of it.",
    )
    run_retention_days: int = Field(
        default=90,
        ge=1,
        description="Dagster's runs and their events are deleted after so long, unless an asset was "
        "last made by them.",
    )
    background_niceness: int = Field(
        default=10,
        ge=0,
        le=19,
        description="How far the processes of Dagster's runs step back for the processors behind the search "
        "service (see nice(1)); 0: not at all.",
    )
    run_threads: int | None = Field(
        default=None,
        ge=1,
        description="Threads that torch takes in Dagster's runs, unless OMP_NUM_THREADS says it; unset: one "
        "fewer than there are processors, so that one is left to the search service.",
    )
    alert_webhook: SecretStr | None = Field(
        default=None,
        description="Where failed runs are reported: the address of an incoming webhook that takes "
        "{\"text\": …}, such as Slack's or Mattermost's. Unset: nowhere.",
    )
    ui_port: int = Field(default=3000)

    # Search service
    search_port: int = Field(default=8321, description="Of the search service and its web page.")
    query_cache_size: int = Field(
        default=10_000, ge=1, description="Queries whose vectors the search service remembers."
    )
    search_queue_size: int = Field(
        default=100_000, ge=1, description="Searches that wait on disk for the database, at the most."
    )
    api_token: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="Who searches over HTTP must send it; without one the service stays on this machine.",
    )
    max_body_bytes: int = Field(default=256 * 1024, ge=1024, description="A larger request is refused.")
    rate_limit: str = Field(
        default="20000/minute",
        pattern=r"^[1-9][0-9]{0,8}/([1-9][0-9]{0,3} )?(second|minute|hour|day)$",
        description="Requests that one client may make, such as 50/second or 1000/5 minute.",
    )

    # NATS
    nats_url: str = Field(
        default="nats://127.0.0.1:4222",
        min_length=1,
        description="Where the server is; several addresses of one cluster with commas between them.",
    )
    nats_credentials: Path | None = Field(
        default=None, description="A .creds file; or put user and password into the address."
    )
    nats_request_subject: str = Field(
        default="embedding.request", pattern=r"^[^\s.*>]+(\.[^\s.*>]+)*$", description="What is answered."
    )
    nats_response_subject: str = Field(
        default="embedding.response",
        pattern=r"^[^\s.*>]+(\.[^\s.*>]+)*$",
        description="Where answers go to requests without a reply subject.",
    )
    nats_queue_group: str = Field(
        default="honeloop-embed",
        pattern=r"^\S+$",
        description="Workers of one group share the requests: each goes to one of them.",
    )
    nats_max_texts: int = Field(default=128, ge=1, description="Texts in one request, at the most.")
    nats_max_waiting: int = Field(
        default=1000, ge=1, description="Requests a worker holds at once; what comes beyond is refused."
    )

    @field_validator("timezone")
    @classmethod
    def _require_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError("no time zone goes by that name, such as Europe/Berlin") from error
        return name

    @property
    def shown_nats_url(self) -> str:
        """`nats_url` as it may be shown: without users, passwords and tokens."""
        return shown_address(self.nats_url)

    @field_serializer("nats_url", when_used="json")
    def _show_nats_url(self, _: str) -> str:
        return self.shown_nats_url

    @property
    def home_path(self) -> Path:
        """`home`, absolute."""
        return self.home.expanduser().absolute()

    @property
    def checkpoints_path(self) -> Path:
        """Where checkpoints lie: one directory per model version."""
        return self.home_path / "checkpoints"

    @property
    def onnx_path(self) -> Path:
        """Where ONNX exports lie: one directory per member of an encoder."""
        return self.home_path / "onnx"

    @property
    def sql_path(self) -> Path:
        """Where the numbered migrations lie."""
        return PROJECT_ROOT / "sql"


def shown_address(address: str) -> str:
    """An address, or several, without users, passwords and tokens."""
    return re.sub(r"[^/,@]*@", "***@", address)


def load_settings() -> Settings:
    """The settings in force, from the environment. Raises pydantic's ValidationError naming the field."""
    return Settings()
