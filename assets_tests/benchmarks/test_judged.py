"""The data of the benchmarks that learn from judgements: sides that share nothing, portions, poison."""

from __future__ import annotations

from pathlib import Path

import pytest

from assets_tests.benchmarks.experiments import base_encoder, read_overrides
from assets_tests.benchmarks.judged import (
    FOLDS,
    Judged,
    Judgement,
    held_out_queries,
    import_judgements,
    judged_corpus,
    mean,
    measure,
    read_judged,
)
from assets_tests.benchmarks.nights import portions
from assets_tests.benchmarks.poisoning import SCENARIOS, SHARE, poison, wrong_answers
from pipeline.errors import BadInputError
from pipeline.feedback.pairs import feedback_pairs
from pipeline.progress import Silent
from pipeline.training.near_duplicates import are_near_duplicates, tokens_of


def test_no_function_copy_or_query_stands_on_both_sides(data: Judged) -> None:
    copy = Judgement("a query of its own", len(data.functions), "accept")
    code = {**data.functions, copy.function: data.functions[1].replace("return", "return  ")}
    with_copy = Judged(code, (*data.judgements, copy))
    held_out_once: list[Judgement] = []
    for fold in range(FOLDS):
        learning, held_out = with_copy.sides(17, fold)
        assert len(learning) + len(held_out) == len(with_copy.judgements)
        seen = {each.function for each in learning}
        assert not seen & {each.function for each in held_out}
        tokens = [tokens_of(code[number]) for number in seen]
        for each in held_out:
            assert not any(are_near_duplicates(tokens_of(code[each.function]), other) for other in tokens)
        held_out_once += held_out
    assert sorted(held_out_once, key=str) == sorted(with_copy.judgements, key=str)


def test_a_seed_gives_other_sides_and_always_the_same(data: Judged, directory: Path) -> None:
    assert data.sides(17, 0) == read_judged(directory).sides(17, 0)
    assert data.sides(17, 0) != data.sides(18, 0)


def test_a_query_that_would_stand_on_both_sides_is_refused(data: Judged) -> None:
    everywhere = tuple(Judgement("the same", each.function, "accept") for each in data.judgements)
    with pytest.raises(BadInputError, match="both sides"):
        Judged(data.functions, everywhere).sides(17, 0)


def test_a_smaller_corpus_keeps_what_was_judged(directory: Path, data: Judged) -> None:
    judged = {each.function for each in data.judgements}
    assert set(read_judged(directory, 0).functions) == judged
    assert len(read_judged(directory, len(judged) + 1).functions) == min(len(judged) + 1, len(data.functions))


def test_missing_data_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="cannot be read"):
        read_judged(tmp_path)


def test_an_unknown_setting_is_refused() -> None:
    assert read_overrides(["train_epochs=2"]) == {"train_epochs": "2"}
    with pytest.raises(BadInputError, match="sets nothing"):
        read_overrides(["train_epoch=2"])


def test_portions_hold_every_judgement_once(data: Judged) -> None:
    dealt = portions(data.judgements, 17, 10)
    assert len(dealt) == 10
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1
    assert sorted((each for portion in dealt for each in portion), key=str) == sorted(
        data.judgements, key=str
    )


@pytest.mark.parametrize("attack", ["scattered", "pushed"])
def test_poison_is_a_twentieth_of_all_feedback(data: Judged, attack: str) -> None:
    wrong = {each.query: [1, 2, 3] for each in data.judgements}
    for scenario in SCENARIOS:
        said = poison(scenario, data.judgements, wrong, attack, 17)
        assert len(said) == scenario.poisoners
        each = round(len(data.judgements) * SHARE / (1 - SHARE))
        expected = each * scenario.poisoners if scenario.each else each * bool(scenario.poisoners)
        assert sum(map(len, said.values())) == expected
        if attack == "pushed":
            assert len({j.function for judgements in said.values() for j in judgements}) <= 1


@pytest.mark.slow
def test_an_experiment_begins_with_the_index_and_leaves_nothing(data: Judged) -> None:
    learning, held_out = data.sides(17, 0)
    with judged_corpus(data, None, Silent()) as corpus:
        with corpus.experiment() as bench:
            assert import_judgements(bench, learning).added == len(learning)
            found = feedback_pairs(bench.db, bench.settings)
            assert len(found.pairs) == sum(each.judgement == "accept" for each in learning)
            asked = held_out_queries(bench.db, held_out)
            assert len(asked.queries) == sum(each.judgement == "accept" for each in held_out)
            # Documentation finds its own code in most cases, and by far not in all.
            assert 0.3 < mean(measure(bench, base_encoder(bench), asked), "ndcg@10") < 1
            wrong = wrong_answers(bench, learning, data)
            assert all(each.function not in wrong[each.query] for each in learning)
        with corpus.experiment() as bench:
            assert not feedback_pairs(bench.db, bench.settings).pairs
