"""Frozen test sets: what makes them is stored, and any model can be measured on them later."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest

from assets_tests.evaluation.small_corpus import Function, add_snippet, functions
from assets_tests.evaluation.test_evaluating import documentation_pair, evaluate, feedback_pair, training_set
from pipeline.config import Settings
from pipeline.corpus.redacting import redact_what_is_left
from pipeline.corpus.secrets import Detector
from pipeline.errors import HoneloopError
from pipeline.evaluation.evaluating import evaluate_on, freeze_test_set
from pipeline.evaluation.frozen_sets import (
    FrozenSet,
    freeze,
    general_in_force,
    general_set,
    give_up_old_sets,
    learned_from,
    load_frozen,
)
from pipeline.evaluation.query_groups import MeasuredQuery, name_test_set
from pipeline.evaluation.store import find_evaluation
from pipeline.feedback.grouping import group_key
from pipeline.progress import Silent
from pipeline.promotion import registry
from pipeline.search.hybrid.fusion import Weights
from pipeline.search.hybrid.words import count_words
from pipeline.store.connections import Database
from pipeline.training.pairs import Pair

if TYPE_CHECKING:
    from pipeline.encoders.encoder import Encoder

WEIGHTS = Weights(0.3, 0.2)


@pytest.fixture
def quick(settings: Settings) -> Settings:
    return settings.model_copy(update={"bootstrap_resamples": 200, "permutations": 1000})


def documented(some: Sequence[Function]) -> list[Pair]:
    return [documentation_pair(each, functions()[-1]) for each in some]


def vanish(db: Database, some: Sequence[Function]) -> None:
    with db.connect() as connection:
        connection.execute(
            "UPDATE snippets SET vanished_at = now() WHERE content_hash = ANY(%s)",
            [[each.content_hash for each in some]],
        )


def test_what_was_frozen_is_what_is_loaded(indexed: Database) -> None:
    pairs = documented(functions()[:5])
    pairs.append(feedback_pair("open a file", functions()[7].content_hash, functions()[7].code))
    frozen = freeze_test_set(indexed, training_set(pairs))
    assert load_frozen(indexed, frozen.name) == frozen
    ranked = freeze(indexed, frozen.queries, frozen.corpus, Weights(0.158, 0.3))
    assert load_frozen(indexed, ranked.name) == ranked
    assert ranked.name != frozen.name
    assert {query.repository for query in frozen.queries} == {"click"}
    assert freeze_test_set(indexed, training_set(pairs[::-1])).name == frozen.name


def test_the_same_queries_of_another_repository_are_another_set(indexed: Database) -> None:
    """Its slices are others, and a large slice that loses decides; what is stored of the first stays its."""
    pairs = documented(functions()[:5])
    first = freeze_test_set(indexed, training_set(pairs))
    with indexed.connect() as connection:
        connection.execute("UPDATE repositories SET name = 'clack'")
    second = freeze_test_set(indexed, training_set(pairs))
    assert (first.corpus, len(first.queries)) == (second.corpus, len(second.queries))
    assert second.name != first.name
    for each, name in ((first, "click"), (second, "clack")):
        assert load_frozen(indexed, each.name) == each
        assert {query.repository for query in each.queries} == {name}
    # A set that was named before repositories were a part of the name goes on.
    before = name_test_set(first.queries, first.corpus, with_repositories=False)
    with indexed.connect() as connection:
        connection.execute(
            "INSERT INTO test_sets (name, rules, queries, corpus)"
            " SELECT %s, rules, queries, corpus FROM test_sets WHERE name = %s",
            [before, first.name],
        )
        connection.execute(
            "UPDATE test_set_queries SET test_set = %s WHERE test_set = %s", [before, first.name]
        )
    assert load_frozen(indexed, before) == replace(first, name=before)


def test_a_set_is_measured_again_after_its_code_is_gone(
    indexed: Database, minilm: Encoder, blurred: Encoder, quick: Settings
) -> None:
    """A model that comes later meets the same corpus, although half of it has vanished meanwhile."""
    registry.ensure_registered(indexed, blurred, "/blurred")
    pairs = documented(functions()[:10])
    before = evaluate(indexed, minilm, training_set(pairs), quick, Silent())
    with indexed.connect() as connection:
        connection.execute("DELETE FROM evaluations")
    vanish(indexed, functions()[:20])
    frozen = load_frozen(indexed, before.test_set)
    again = evaluate_on(indexed, minilm, frozen, quick, Silent())
    assert not again.reused
    assert replace(again, id=before.id) == before
    later = evaluate_on(indexed, blurred, frozen, quick, Silent())
    assert (later.queries, later.corpus) == (before.queries, before.corpus)
    with pytest.raises(HoneloopError, match="nothing to measure with"):
        freeze_test_set(indexed, training_set(pairs))


def test_a_set_ranks_by_words_as_they_were_counted_when_it_was_frozen(
    indexed: Database, minilm: Encoder, quick: Settings
) -> None:
    """Else what came later would be measured otherwise than what it is compared with."""
    pairs = documented(functions()[:10])
    with indexed.connect() as connection:
        count_words(connection)
    meaning = freeze_test_set(indexed, training_set(pairs))
    frozen = freeze(indexed, meaning.queries, meaning.corpus, WEIGHTS)
    assert load_frozen(indexed, frozen.name) == frozen
    first = evaluate_on(indexed, minilm, frozen, quick, Silent())
    with indexed.connect() as connection:
        connection.execute("DELETE FROM evaluations")
    # A word that is rare in the set's corpus stands everywhere in today's, and texts are longer.
    rare = frozen.queries[0].counted
    assert rare is not None
    for number in range(60):
        code = f"def {' '.join(each.word for each in rare.words)}_{number}(): return {'x + ' * 200}0"
        add_snippet(indexed, code, path=f"new{number}.py", symbol="new")
    with indexed.connect() as connection:
        count_words(connection)
    today = freeze(indexed, meaning.queries, meaning.corpus, WEIGHTS)
    assert today.name != frozen.name
    again = evaluate_on(indexed, minilm, load_frozen(indexed, frozen.name), quick, Silent())
    assert not again.reused
    assert again.per_query == first.per_query
    assert evaluate_on(indexed, minilm, today, quick, Silent()).per_query != first.per_query


def test_a_set_whose_words_are_not_all_counted_is_refused(indexed: Database) -> None:
    meaning = freeze_test_set(indexed, training_set(documented(functions()[:5])))
    frozen = freeze(indexed, meaning.queries, meaning.corpus, WEIGHTS)
    with indexed.connect() as connection:
        # As `feedback forget` leaves it, with another query gone and this one spelt as others did.
        connection.execute(
            "DELETE FROM test_set_queries WHERE test_set = %s AND query_key = %s",
            [frozen.name, frozen.queries[0].key],
        )
        connection.execute("UPDATE test_sets SET forgotten = 1 WHERE name = %s", [frozen.name])
    assert len(load_frozen(indexed, frozen.name).queries) == 4
    with indexed.connect() as connection:
        connection.execute(
            "UPDATE test_set_queries SET words = NULL, word_documents = NULL, word_weights = NULL,"
            " mean_length = NULL WHERE test_set = %s AND query_key = %s",
            [frozen.name, frozen.queries[1].key],
        )
    with pytest.raises(HoneloopError, match="not known for all its queries"):
        load_frozen(indexed, frozen.name)


def test_each_query_keeps_what_stood_first(indexed: Database, minilm: Encoder, quick: Settings) -> None:
    evaluation = evaluate(indexed, minilm, training_set(documented(functions()[:10])), quick, Silent())
    found = [each for each in evaluation.per_query if each.rank <= 10]
    assert found
    for each in evaluation.per_query:
        assert len(set(each.top)) == len(each.top) == 10
        assert each.words == len(each.query.split())
        assert each.repository == "click"
    for each in found:
        asked = next(f for f in functions() if f.documentation == each.query)
        assert each.top[each.rank - 1] == each.answer == asked.content_hash


def test_a_set_that_was_tampered_with_or_lost_a_text_is_refused(indexed: Database) -> None:
    frozen = freeze_test_set(indexed, training_set(documented(functions()[:5])))
    with indexed.connect() as connection:
        connection.execute(
            "UPDATE test_set_queries SET query = query || '!' WHERE query_key = %s", [frozen.queries[0].key]
        )
    with pytest.raises(HoneloopError, match="not what it was when it was frozen"):
        load_frozen(indexed, frozen.name)
    with indexed.connect() as connection:
        connection.execute("DELETE FROM measured_texts")
    with pytest.raises(HoneloopError, match="was deleted from the database"):
        load_frozen(indexed, frozen.name)
    with pytest.raises(HoneloopError, match="No test set"):
        load_frozen(indexed, "ab" * 32)


def test_a_set_goes_on_when_a_secret_is_taken_out_of_it(
    indexed: Database, minilm: Encoder, quick: Settings
) -> None:
    """Rules for secrets changed since; a night later the same set still tells two models apart."""
    secret = f"ghp_{'a1B2c3D4e5F6' * 3}"
    pairs = documented(functions()[:6])
    pairs[0] = replace(pairs[0], query=f"Signs in at the server as {secret} says")
    pairs[1] = replace(pairs[1], positive_text=f'{pairs[1].positive_text}\n    key = "{secret}"\n')
    with indexed.connect() as connection:
        count_words(connection)
    frozen = freeze(indexed, *_queries_and_corpus(freeze_test_set(indexed, training_set(pairs))), WEIGHTS)
    before = evaluate_on(indexed, minilm, frozen, quick, Silent())
    with indexed.connect() as connection:
        redact_what_is_left(connection, Detector(quick))
        connection.execute("DELETE FROM evaluations")
    after = load_frozen(indexed, frozen.name)
    assert secret not in repr(after)
    assert [query.key for query in after.queries] == [query.key for query in frozen.queries]
    (redacted,) = [query for query in after.queries if "REDACTED" in query.query]
    (whole,) = [query for query in frozen.queries if secret in query.query]
    assert redacted.counted is not None
    assert whole.counted is not None
    assert {each.word for each in redacted.counted.words} == {"sign", "server", "say"}
    assert set(redacted.counted.words) < set(whole.counted.words)  # with what was counted then
    again = evaluate_on(indexed, minilm, after, quick, Silent())
    assert (again.queries, again.corpus) == (before.queries, before.corpus)
    # It knows a query by its key and by its words: of what learns tonight, which never saw the secret, too.
    learned = replace(feedback_pair(redacted.query, b"1" * 32, "x = 1"), split="train", group_key=whole.key)
    assert learned_from(after, training_set([learned])) == {redacted.key}


def _queries_and_corpus(frozen: FrozenSet) -> tuple[Sequence[MeasuredQuery], Sequence[bytes]]:
    return frozen.queries, frozen.corpus


class TestGeneralSet:
    @pytest.fixture
    def small(self, quick: Settings) -> Settings:
        return quick.model_copy(update={"general_min_queries": 5})

    def general(
        self, db: Database, some: Sequence[Function], settings: Settings, learned: Sequence[Pair] = ()
    ) -> FrozenSet | None:
        """What is the general set on a night with the documentation of `some` on the test side."""
        pairs = documented(some)
        pairs.append(feedback_pair("open a file", functions()[30].content_hash, functions()[30].code))
        made = training_set([*pairs, *learned])
        return general_set(db, freeze_test_set(db, made), made, settings)

    def test_it_is_held_constant_whatever_is_added_or_vanishes(
        self, indexed: Database, small: Settings
    ) -> None:
        first = self.general(indexed, functions()[:8], small)
        assert first is not None
        assert {query.origin for query in first.queries} == {"docstring"}
        assert len(first.queries) == 8
        add_snippet(indexed, "def quite_new(): ...", path="new.py", symbol="quite_new")
        vanish(indexed, functions()[:3])
        assert self.general(indexed, functions()[3:20], small) == first
        in_force = general_in_force(indexed)
        assert in_force is not None
        assert (in_force.name, in_force.queries) == (first.name, 8)

    def test_one_too_small_to_tell_is_replaced_by_a_larger_one(
        self, indexed: Database, small: Settings
    ) -> None:
        first = self.general(indexed, functions()[:4], small)
        assert self.general(indexed, functions()[:4], small) == first
        second = self.general(indexed, functions()[:9], small)
        assert second is not None
        assert len(second.queries) == 9
        in_force = general_in_force(indexed)
        assert in_force is not None
        assert in_force.reason == "of the one before 4 queries were left, too few to tell"

    def test_one_that_was_learned_from_too_much_is_replaced(self, indexed: Database, small: Settings) -> None:
        first = self.general(indexed, functions()[:8], small)
        learned = [
            replace(feedback_pair(f"question {n}", each.content_hash, each.code), split="train")
            for n, each in enumerate(functions()[:4])
        ]
        assert self.general(indexed, functions()[:8], small, learned[:3]) == first
        second = self.general(indexed, functions()[8:20], small, learned)
        assert second is not None
        assert len(second.queries) == 12

    def test_one_that_cannot_be_measured_any_more_is_replaced(
        self, indexed: Database, small: Settings
    ) -> None:
        first = self.general(indexed, functions()[:8], small)
        with indexed.connect() as connection:
            connection.execute("DELETE FROM measured_texts")
        second = self.general(indexed, functions()[8:20], small)
        assert first is not None
        assert second is not None
        assert second.name != first.name
        in_force = general_in_force(indexed)
        assert in_force is not None
        assert "was deleted from the database" in in_force.reason

    def test_without_documentation_there_is_none(self, indexed: Database, small: Settings) -> None:
        assert self.general(indexed, [], small) is None
        assert general_in_force(indexed) is None


def test_queries_that_a_model_learned_from_are_no_test_of_it(indexed: Database) -> None:
    asked = functions()[:6]
    frozen = freeze_test_set(indexed, training_set(documented(asked)))

    def keys(*some: Function) -> set[bytes]:
        return {query.key for query in frozen.queries if query.query in {f.documentation for f in some}}

    renamed = asked[1].undocumented.replace("self", "me", 1)
    learned = [
        replace(feedback_pair("something else", asked[0].content_hash, asked[0].code), split="train"),
        replace(feedback_pair("another thing", sha(renamed), renamed), split="validation"),
        replace(
            feedback_pair(asked[2].documentation, functions()[20].content_hash, functions()[20].code),
            split="train",
            group_key=group_key(asked[2].documentation),
        ),
        feedback_pair("a test of its own", asked[3].content_hash, asked[3].code),
    ]
    assert learned_from(frozen, training_set(learned)) == keys(*asked[:3])
    assert learned_from(frozen, training_set([])) == frozenset()


def test_so_are_those_that_are_all_but_the_same_in_words_unless_people_asked_both(indexed: Database) -> None:
    one, other, elsewhere = functions()[0], functions()[1], functions()[20]
    asked = [
        replace(
            documentation_pair(one, functions()[-1]), query="Return a sorted list of all nodes of the graph"
        ),
        feedback_pair("read all lines of the text file at once", other.content_hash, other.code),
    ]
    frozen = freeze_test_set(indexed, training_set(asked))
    by_query = {query.query: query.key for query in frozen.queries}

    def spoiled(query: str, origin: Literal["feedback", "docstring"]) -> frozenset[bytes]:
        pair = feedback_pair(query, elsewhere.content_hash, elsewhere.code)
        learned = replace(pair, origin=origin, split="train", group_key=group_key(query))
        return learned_from(frozen, training_set([learned]))

    near_documentation = "Return a sorted list of all the nodes of the graph"
    near_question = "read all the lines of the text file at once"
    documented, question = (frozenset({by_query[pair.query]}) for pair in asked)
    assert spoiled(near_documentation, "docstring") == spoiled(near_documentation, "feedback") == documented
    assert spoiled(near_question, "docstring") == question
    assert spoiled(near_question, "feedback") == frozenset()


def sha(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def test_old_sets_are_given_up_but_for_those_behind_what_is_in_use(
    indexed: Database, minilm: Encoder, quick: Settings
) -> None:
    made = training_set(documented(functions()[:3]))
    one = general_set(indexed, freeze_test_set(indexed, made), made, quick)
    assert one is not None
    behind = freeze(indexed, one.queries[:2], one.corpus)
    old = freeze(indexed, one.queries[:1], one.corpus[:-1])
    with indexed.connect() as connection:
        connection.execute("UPDATE test_sets SET created_at = created_at - interval '1 day'")
        registry.store_metrics(connection, minilm.version, {"verdict": {"test_set": behind.name}})
        registry.set_state(connection, minilm.version, "serving", "index", ["it passed"])
    new = freeze(indexed, one.queries[1:2], one.corpus)
    for frozen in (one, behind, old, new):
        evaluate_on(indexed, minilm, frozen, quick, Silent())
    assert give_up_old_sets(indexed, keep=1) == 1
    for kept in (one, behind, new):
        assert load_frozen(indexed, kept.name) == kept
        measured = find_evaluation(indexed, minilm.version, kept.name)
        assert measured is not None
        assert len(measured.per_query) == len(kept.queries)
    assert find_evaluation(indexed, minilm.version, old.name) is None
    with pytest.raises(HoneloopError, match="No test set"):
        load_frozen(indexed, old.name)
    with indexed.connect() as connection:
        assert connection.execute("SELECT count(*) FROM measured_corpora").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM evaluation_queries").fetchone() == (6,)


def test_what_was_measured_on_sets_given_up_before_goes_unless_a_verdict_rests_on_it(
    indexed: Database, minilm: Encoder, quick: Settings
) -> None:
    """Older releases left it for ever; and before sets were stored at all, verdicts were found on it."""
    made = training_set(documented(functions()[:3]))
    new = freeze_test_set(indexed, made)
    evaluate_on(indexed, minilm, new, quick, Silent())
    behind, left = "aa" * 32, "bb" * 32
    with indexed.connect() as connection:
        for name in (behind, left):
            connection.execute(
                "INSERT INTO evaluations (model_version, test_set, queries, corpus, metrics)"
                " SELECT model_version, %s, queries, corpus, metrics FROM evaluations WHERE test_set = %s",
                [name, new.name],
            )
        registry.store_metrics(connection, minilm.version, {"verdict": {"test_set": behind}})
        registry.set_state(connection, minilm.version, "serving", "index", ["it passed"])
    assert give_up_old_sets(indexed, keep=50) == 0
    found = [find_evaluation(indexed, minilm.version, name) for name in (new.name, behind, left)]
    assert [each is not None for each in found] == [True, True, False]
