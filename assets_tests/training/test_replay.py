"""What a fine-tuned model learned from before may be shown again, and what may not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from assets_tests.training.click_pairs import content_hash, make_set, plain_pairs
from pipeline.config import Settings
from pipeline.training.pairs import Negative, Pair
from pipeline.training.recipe import recipe_of
from pipeline.training.replay import usable_again
from pipeline.training.stages import plan_stages

EARLIER = plain_pairs(6, "train")
PRESENT = make_set(
    [*plain_pairs(10, "train", 20), *plain_pairs(4, "validation", 30), *plain_pairs(4, "test", 34)]
)


def with_negative(pair: Pair, other: Pair, text: str | None = None) -> Pair:
    text = text or other.positive_text
    negative = Negative(content_hash(text), text, "mined", 0.5, 0.4)
    return replace(pair, negatives=(negative,))


def test_each_earlier_pair_comes_once() -> None:
    assert usable_again([*EARLIER, *EARLIER], PRESENT) == tuple(EARLIER)


def test_feedback_that_is_no_longer_there_stays_away() -> None:
    earlier = [replace(EARLIER[0], origin="feedback"), replace(EARLIER[1], origin="commit")]
    assert usable_again(earlier, PRESENT) == (earlier[1],)


def test_a_query_of_the_present_set_is_left_to_it() -> None:
    asked = [replace(EARLIER[0], query=pair.query, group_key=pair.group_key) for pair in PRESENT.pairs]
    assert usable_again(asked, PRESENT) == ()


@pytest.mark.parametrize("number", [11, 15])  # of the validation side, and of the test side
def test_nothing_comes_back_that_is_held_out_now(number: int) -> None:
    held_out = PRESENT.pairs[number]
    copied = held_out.positive_text + "\n    # a copy\n"
    leaking = [
        replace(EARLIER[0], positive_text=held_out.positive_text, positive_hash=held_out.positive_hash),
        replace(EARLIER[1], positive_text=copied, positive_hash=content_hash(copied)),
        with_negative(EARLIER[2], held_out),
        with_negative(EARLIER[3], held_out, copied),
    ]
    assert usable_again([*leaking, EARLIER[4]], PRESENT) == (EARLIER[4],)


def test_a_share_of_the_only_stage_is_earlier_pairs() -> None:
    settings = Settings(replay_share=0.25, train_batch_size=4)
    (stage,) = plan_stages(PRESENT, recipe_of(settings), print, EARLIER)
    assert (len(stage.pairs), stage.replayed) == (13, 3)
    assert sum(pair in EARLIER for pair in stage.pairs) == 3
