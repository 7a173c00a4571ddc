"""What a fine-tuned model learned from before may be shown again, and what may not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from assets_tests.training.click_pairs import content_hash, make_set, plain_pairs
from assets_tests.training.standard_library import Function, add_functions
from pipeline.config import Settings
from pipeline.encoders.encoder import Encoder
from pipeline.progress import Silent
from pipeline.promotion.registry import ModelRecord, ensure_registered, set_state
from pipeline.store.connections import Database
from pipeline.training import store
from pipeline.training.earlier_sets import training_sets_of
from pipeline.training.pairs import Negative, Pair, TrainingSet
from pipeline.training.recipe import recipe_of
from pipeline.training.replay import earlier_pairs, usable_again
from pipeline.training.stages import plan_stages
from pipeline.training.training_set import load_training_set
from pipeline.workbench import Workbench

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


def test_a_query_that_is_all_but_the_same_as_one_that_is_held_out_stays_away() -> None:
    held_out = replace(PRESENT.pairs[15], query="Return a sorted list of all nodes of the graph")
    present = make_set([*PRESENT.pairs[:15], held_out, *PRESENT.pairs[16:]])
    near = replace(EARLIER[0], query="Return a sorted list of all the nodes of the graph")
    assert usable_again([near, EARLIER[1]], PRESENT) == (near, EARLIER[1])
    assert usable_again([near, EARLIER[1]], present) == (EARLIER[1],)


def test_copies_in_two_sets_are_not_played_off_against_each_other() -> None:
    trained = PRESENT.pairs[0]
    copied = trained.positive_text + "\n    # a copy\n"
    other = "def something_else(path, mode):\n    return open_it(path).read_all(mode)\n"
    copy = replace(EARLIER[0], positive_text=copied, positive_hash=content_hash(copied))
    against = with_negative(EARLIER[1], trained, copied)
    spared = replace(EARLIER[2], spared=frozenset({content_hash(copied)}))
    # Named after a content that the present set does not have, as if it had been the least of its cluster.
    old = frozenset({content_hash(other)})
    copy = replace(copy, copy_group=min(old))
    first, second, third = usable_again([copy, against, spared], PRESENT)
    assert first.group == second.negatives[0].group == trained.group
    assert trained.spares(first.group)
    assert third.spares(trained.group)


def test_a_share_of_the_only_stage_is_earlier_pairs() -> None:
    settings = Settings(replay_share=0.25, train_batch_size=4)
    (stage,) = plan_stages(PRESENT, recipe_of(settings), print, EARLIER)
    assert (len(stage.pairs), stage.replayed) == (13, 3)
    assert sum(pair in EARLIER for pair in stage.pairs) == 3


def test_a_model_trained_from_the_serving_one_is_shown_what_that_one_learned_from(
    db: Database, minilm: Encoder, settings: Settings
) -> None:
    base = ensure_registered(db, minilm, "minilm")

    def stored(pairs: list[Pair]) -> TrainingSet:
        name = make_set(pairs).fingerprint
        codes = {pair.positive_text: content_hash(pair.positive_text).hex() for pair in pairs}
        code = [Function("click.py", symbol, text, None, None) for text, symbol in codes.items()]
        add_functions(db, code, repository=name)
        with db.connect() as connection:
            set_id = store.save_set(
                connection,
                fingerprint=name,
                pairs_fingerprint=name,
                model_version=base.version,
                counts={},
                settings={},
                pairs=pairs,
            )
        return load_training_set(db, set_id)

    def trained(number: int, on: TrainingSet, origin: ModelRecord) -> ModelRecord:
        """A model version grown from another one; only its registration matters here."""
        encoder = Encoder(minilm.spec, (), dict.fromkeys(minilm.files, f"{number:064x}"))
        return ensure_registered(
            db,
            encoder,
            f"/checkpoints/{number}",
            state="candidate",
            base_version=origin.version,
            training_set_id=on.id,
        )

    # The first set has four pairs that the second no longer has, one of which people judged, and one whose
    # code the second holds out; two more validate or test, and are not learned from.
    judged = replace(EARLIER[0], origin="feedback")
    held_out = replace(EARLIER[1], positive_text=PRESENT.pairs[12].positive_text)
    held_out = replace(held_out, positive_hash=content_hash(held_out.positive_text))
    aside = [replace(EARLIER[4], split="validation"), replace(EARLIER[5], split="test")]
    first = stored([judged, held_out, *EARLIER[2:4], *aside, *PRESENT.pairs[:2]])
    second = stored(list(PRESENT.pairs))
    one = trained(1, first, base)
    two = trained(2, second, one)
    assert training_sets_of(db, two) == (second.id, first.id)

    def shown(model: ModelRecord, training_set: TrainingSet) -> set[str]:
        return {pair.query for pair in earlier_pairs(db, model, training_set)}

    wanted = {pair.query for pair in EARLIER[2:4]}
    assert shown(base, second) == set()
    assert shown(one, first) == set()  # the same set once more has them all
    assert shown(one, second) == wanted
    assert shown(two, second) == wanted  # of the whole line
    # `honeloop train --base serving` means this one when it serves.
    with db.connect() as connection:
        set_state(connection, one.version, "approved", "gate", ["a test"])
        set_state(connection, one.version, "serving", "index", ["a test"])
    bench = Workbench(settings, Silent(), db)
    assert shown(bench.named_model("serving"), second) == wanted
    assert shown(bench.named_model("base"), second) == set()
