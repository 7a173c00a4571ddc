"""A recipe's name says which; the settings say the rest; what cannot be is refused with what can."""

from __future__ import annotations

import pytest

from pipeline.config import Settings
from pipeline.errors import BadInputError
from pipeline.training.recipe import recipe_of
from pipeline.training.recipe_words import WORDS, words_of


def test_the_default_merges_what_two_parts_learn() -> None:
    assert recipe_of(Settings()).name == "merged"


def test_the_loss_alone_is_one_stage_of_all_pairs() -> None:
    recipe = recipe_of(Settings(recipe="multiple-negatives"))
    assert (recipe.name, recipe.loss, recipe.temperature) == (
        "multiple-negatives",
        "multiple-negatives",
        0.05,
    )
    (stage,) = recipe.stages
    assert stage.origins == ("feedback", "docstring", "commit")
    assert (stage.epochs, stage.batch_size, stage.learning_rate) == (1, 32, 5e-5)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("two-stage+triplet", "triplet+two-stage"),
        (" triplet + two-stage ", "triplet+two-stage"),
        ("multiple-negatives+two-stage", "two-stage"),
        ("multiple-negatives", "multiple-negatives"),
    ],
)
def test_one_recipe_has_one_name(written: str, name: str) -> None:
    assert recipe_of(Settings(recipe=written)).name == name
    assert recipe_of(Settings(recipe=written)) == recipe_of(Settings(recipe=name))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("hinge", "'hinge' is not known"),
        ("triplet+", "'' is not known"),
        ("triplet+triplet", "'triplet' stands there twice"),
        ("triplet+multiple-negatives", "are two losses"),
        ("triplet+guided", "there are none to guide"),
        ("two-stage+merged", "both say what is learned when"),
    ],
)
def test_what_is_no_recipe_is_refused_with_what_each_word_is_for(name: str, why: str) -> None:
    with pytest.raises(BadInputError, match=why) as refused:
        words_of(name)
    assert all(f"{word} ({purpose})" in refused.value.hint for word, purpose in WORDS.items())


def test_each_stage_has_its_own_epochs_batches_and_learning_rate() -> None:
    first, second = recipe_of(
        Settings(recipe="two-stage", train_epochs=4, first_stage_learning_rate=1e-5)
    ).stages
    assert (first.origins, second.origins) == (("docstring", "commit"), ("feedback",))
    assert (first.epochs, second.epochs) == (4, 4)
    assert (first.learning_rate, second.learning_rate) == (1e-5, 5e-5)
    settings = Settings(recipe="two-stage", first_stage_epochs=2, first_stage_batch_size=64)
    first, second = recipe_of(settings).stages
    assert (first.epochs, second.epochs) == (2, 1)
    assert (first.batch_size, second.batch_size) == (64, 32)


def test_merged_learns_from_all_pairs_and_from_feedback_alone_each_from_the_base() -> None:
    recipe = recipe_of(Settings(recipe="merged", train_epochs=2, cached_batch_size=64, feedback_epochs=3))
    assert recipe.apart
    whole, alone = recipe.stages
    assert whole == recipe_of(Settings(recipe="multiple-negatives", train_epochs=2)).stages[0]
    assert (alone.origins, alone.epochs, alone.batch_size) == (("feedback",), 3, 64)
    assert (alone.learning_rate, alone.cached, alone.mined, alone.fewest) == (1e-4, True, False, 200)
    assert not recipe_of(Settings(recipe="two-stage")).apart
    # The triplet loss has no other negatives.
    assert recipe_of(Settings(recipe="merged+triplet")).stages[1].mined
