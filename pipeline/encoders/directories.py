"""What a local model directory says about itself: Sentence Transformers' layout or bare transformers'."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from pipeline.encoders.files import ARCHITECTURE, DamagedModelError, read_json
from pipeline.encoders.spec import EncoderSpec, MemberSpec, Pooling
from pipeline.errors import HoneloopError

MODULES = "modules.json"
# Sentence Transformers' names for the ways of pooling: since release 6 one key, before that one flag each.
_POOLINGS: dict[str, Pooling] = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# The first that is there counts, as in Sentence Transformers.
_LENGTH_KEYS = (
    ("sentence_bert_config.json", "max_seq_length"),
    ("tokenizer_config.json", "model_max_length"),
)
# A snippet is a function or a class; attention's cost grows with the square of the length.
LONGEST_DEFAULT = 2048
_OFFSET_POSITIONS = frozenset({"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet"})


def spec_for_directory(path: Path, name: str | None = None) -> EncoderSpec:
    """The spec of a model directory, read from its own configuration files.

    With modules.json it is a Sentence Transformers model of a transformer, a pooling and maybe a
    normalisation; without, a bare transformers model, whose token vectors are averaged.

    Args:
        path: the directory.
        name: what to call the encoder; by default the directory's name.

    Raises:
        DamagedModelError: a configuration file is missing or unreadable.
        HoneloopError: the model has modules or a pooling that an encoder cannot reproduce.
    """
    fix = f"Copy the model to {path} again."
    member = member_for_directory(path, source=f"path:{path.absolute()}", fix=fix)
    return EncoderSpec(name=name or path.absolute().name, members=(member,))


def member_for_directory(path: Path, *, source: str, fix: str, revision: str | None = None) -> MemberSpec:
    """The member that a model directory holds.

    Args:
        path: the directory.
        source: goes into the spec as given.
        fix: what to do about a missing or damaged file.
        revision: goes into the spec as given.

    Raises:
        DamagedModelError, HoneloopError: as `spec_for_directory` does.
    """
    config = read_json(path / ARCHITECTURE, fix)
    dims = config.get("hidden_size")
    if not isinstance(dims, int):
        raise HoneloopError(
            f"{path / ARCHITECTURE} has no hidden_size, so it is not a text encoder's.",
            hint="Give a model that transformers can load as a text encoder.",
        )
    folders = _module_folders(path, fix) if (path / MODULES).is_file() else {}
    transformer = path / folders.get("Transformer", "")
    if transformer != path:
        raise HoneloopError(
            f"{path / MODULES} puts the transformer in a folder of its own, {folders['Transformer']!r}.",
            hint=f"Save the model again with this version of Sentence Transformers, or give {transformer}.",
        )
    prompts = _prompts(path, fix)
    return MemberSpec(
        source=source,
        revision=revision,
        dims=dims,
        max_tokens=_max_tokens(path, config, fix),
        pooling=_pooling(path / folders["Pooling"] / ARCHITECTURE, fix) if "Pooling" in folders else "mean",
        # A bare transformer's average is normalised: an encoder's vectors always have unit length.
        normalize="Normalize" in folders or not folders,
        query_prompt=prompts.get("query", ""),
        document_prompt=prompts.get("document", prompts.get("passage", "")),
    )


def _module_folders(path: Path, fix: str) -> dict[str, str]:
    import json

    try:
        modules = cast("list[dict[str, Any]]", json.loads((path / MODULES).read_text(encoding="utf-8")))
        folders = {str(module["type"]).rpartition(".")[2]: str(module["path"]) for module in modules}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedModelError(f"{path / MODULES} cannot be read: {error}.", hint=fix) from error
    unknown = sorted(set(folders) - {"Transformer", "Pooling", "Normalize"})
    if unknown or not {"Transformer", "Pooling"} <= set(folders):
        raise HoneloopError(
            f"{path / MODULES} lists modules {sorted(folders)}; an encoder is a Transformer, a Pooling and "
            "maybe a Normalize.",
            hint="Use another model.",
        )
    return folders


def _pooling(path: Path, fix: str) -> Pooling:
    config = read_json(path, fix)
    mode = config.get("pooling_mode")
    if mode is None:
        modes = [name for flag, name in _POOLING_FLAGS.items() if config.get(flag)]
    else:
        modes = [mode] if isinstance(mode, str) else [str(each) for each in mode]
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise HoneloopError(
            f"{path} asks for pooling {' + '.join(modes) or 'none'}; an encoder pools by one of "
            f"{', '.join(_POOLINGS)}.",
            hint="Use another model.",
        )
    return _POOLINGS[modes[0]]


def positions_of(config: dict[str, Any]) -> int | None:
    """How many tokens a model has positions for, from its config.json; None if that sets no limit."""
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int) or positions < 1:
        return None
    # RoBERTa and its kin count positions from one after the padding token's id.
    offset = int(config.get("pad_token_id") or 0) + 1 if config.get("model_type") in _OFFSET_POSITIONS else 0
    return positions - offset


def _max_tokens(path: Path, config: dict[str, Any], fix: str) -> int:
    positions = positions_of(config)
    for file, key in _LENGTH_KEYS:
        if not (path / file).is_file():
            continue
        limit = read_json(path / file, fix).get(key)
        # transformers writes 10^30 for "no limit".
        if isinstance(limit, int) and 2 <= limit <= 1_000_000:
            return min(limit, positions or limit, LONGEST_DEFAULT)
    return min(positions or LONGEST_DEFAULT, LONGEST_DEFAULT)


def _prompts(path: Path, fix: str) -> dict[str, str]:
    file = path / "config_sentence_transformers.json"
    if not file.is_file():
        return {}
    prompts = read_json(file, fix).get("prompts")
    return {str(k): str(v) for k, v in prompts.items()} if isinstance(prompts, dict) else {}
