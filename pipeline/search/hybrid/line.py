"""What counts in the ranking of a model, learned for the model it was trained from first.

That one has seen none of the queries that the other was trained on, so that it has the better evidence.
"""

from __future__ import annotations

from pipeline.errors import UnavailableError
from pipeline.index.serving import ServingIndex, serving_index, verified_index
from pipeline.progress import Progress
from pipeline.search.hybrid.learning import learn_weights
from pipeline.search.hybrid.weights import RankingWeights
from pipeline.workbench import Workbench


def learn_serving_ranking(bench: Workbench, progress: Progress) -> None:
    """Learns from new judgements for what serves now, if anything does: its texts stay as they are."""
    try:
        serving = serving_index(bench.db)
    except UnavailableError:
        return
    learn_ranking(bench, serving, progress, changed=False)


def learn_ranking(
    bench: Workbench, index: ServingIndex, progress: Progress, *, changed: bool
) -> RankingWeights:
    """Learns and stores the weights of the index's model; before, while its index stands, those of its base.

    Args:
        bench: The database and the encoders.
        index: Serving, or one that is verified.
        progress: Told of the outcome.
        changed: Whether the live texts may have changed since their words were counted.
    """
    model = bench.model(index.model_version)
    base = None if model.base_version is None else verified_index(bench.db, model.base_version)
    if base is not None:
        encoder = bench.encoder(bench.model(base.model_version))
        learn_weights(bench.db, encoder, bench.settings, progress, changed=changed, index=base)
        changed = False
    return learn_weights(
        bench.db, bench.encoder(model), bench.settings, progress, changed=changed, index=index
    )
