"""What a challenger needs before searches are interleaved with it: vectors, an index, ranking weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import BadInputError, HoneloopError
from pipeline.evaluation.online import challenger
from pipeline.index.building import build_index
from pipeline.index.challenging import challenger_version, challenging_index, choose_challenger
from pipeline.index.embeddings import embed_missing
from pipeline.index.in_use import vectors_in_use
from pipeline.index.serving import ServingIndex, serving_index, verified_index
from pipeline.index.verifying import coverage
from pipeline.progress import Progress
from pipeline.promotion.deciding import require_sound
from pipeline.promotion.weights import weights_in_use
from pipeline.search.hybrid.line import learn_ranking
from pipeline.workbench import Workbench

if TYPE_CHECKING:
    from pipeline.promotion.registry import ModelRecord


def challenge(bench: Workbench, name: str | None) -> tuple[ModelRecord, ServingIndex]:
    """Makes a model version the challenger, its index built first; who was it until then is it no longer.

    Args:
        bench: The database and the encoders.
        name: As `Workbench.named_model` takes it; None: the newest candidate about which the gate had not
            enough evidence against what serves.

    Returns:
        The model version, and its index.

    Raises:
        BadInputError: no model goes by that name, it serves, or there is no such candidate.
        UnavailableError: nothing serves yet.
        HoneloopError: it cannot be loaded or is not sane, or its index not be built or verified.
    """
    serving = serving_index(bench.db)
    if name is None:
        with bench.db.connect() as connection:
            undecided = challenger(connection)
        if undecided is None:
            raise BadInputError(
                "The gate is undecided about no candidate.",
                hint="Name a model version; `honeloop models` lists them.",
            )
        name = undecided[0]
    model = bench.named_model(name)
    with weights_in_use(bench.db, model.version):
        if model.version != serving.model_version:  # else it is refused below, before it costs anything
            require_sound(bench.db, model, bench.settings, bench.progress)
            build_challenger(bench, model, bench.progress)
        with bench.db.connect() as connection:
            choose_challenger(connection, model.version)
            index = challenging_index(connection)
    if index is None:
        raise HoneloopError(f"The index of {model.version[:12]} was dropped meanwhile.", hint="Try again.")
    return model, index


def build_challenger(bench: Workbench, model: ModelRecord, progress: Progress) -> None:
    """Embeds every live text with `model`, builds or extends its index, and weighs words beside its meaning.

    Nothing is flipped. It costs what promoting the model would, and little when little has changed since.

    Raises:
        HoneloopError: the model cannot be loaded, or its index not be built or verified.
    """
    encoder = bench.encoder(model)
    # Until its index is there: the build of what serves, which this one may wait for, cleans up before.
    with vectors_in_use(bench.db, model.version):
        embed_missing(bench.db, encoder, bench.settings, progress)
        if not _covers_everything(bench, model):
            build_index(
                bench.db, model.version, bench.settings, progress, lambda: bench.recall_queries(model)
            )
    index = verified_index(bench.db, model.version)
    if index is not None:
        learn_ranking(bench, index, progress, changed=False)


def keep_up(bench: Workbench, progress: Progress) -> str:
    """Brings the challenger's index up to date with the one that serves.

    Returns:
        What became of it, a sentence; "" if there is no challenger. Failing is no failure of what serves: the
        searches whose texts it lacks are answered by that alone.
    """
    with bench.db.connect() as connection:
        version = challenger_version(connection)
    if version is None:
        return ""
    try:
        model = bench.model(version)
        build_challenger(bench, model, progress)
    except HoneloopError as error:
        said = f"The challenger {version[:12]} is behind: {error}"
    else:
        said = f"The challenger {version[:12]} is up to date."
    progress.note(said)
    return said


def _covers_everything(bench: Workbench, model: ModelRecord) -> bool:
    """Whether the index that would be used has every live text already."""
    with bench.db.connect() as connection:
        index = verified_index(connection, model.version)
        return index is not None and coverage(connection, index.table).equal
