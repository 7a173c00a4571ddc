"""Assets, one module for each part of the loop; their bodies call the domain rooms.

What does not belong here: checks, jobs, and whatever would be needed without Dagster.
"""

from pipeline.defs.assets.corpus import repositories, snippets
from pipeline.defs.assets.evaluation import model_evaluation, promoted_model
from pipeline.defs.assets.index import search_index, snippet_embeddings
from pipeline.defs.assets.training import fine_tuned_model, model_checkpoint, search_feedback, training_set

all_assets = [
    repositories,
    snippets,
    search_feedback,
    training_set,
    fine_tuned_model,
    model_checkpoint,
    model_evaluation,
    promoted_model,
    snippet_embeddings,
    search_index,
]
