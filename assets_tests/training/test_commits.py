"""From real git repositories to commit pairs: what is read, kept, forgotten, matched and left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pygit2
import pytest

from assets_tests.corpus.making import AUTHOR, Entry, GitRepository
from pipeline.config import Settings
from pipeline.corpus.extraction import extract_repository
from pipeline.corpus.repositories import add_repository, get_repository, remove_repository
from pipeline.encoders.loading import token_budget
from pipeline.progress import Silent
from pipeline.store.connections import Database
from pipeline.training.commit_mining import Mined, mine_commits
from pipeline.training.commit_pairs import commit_candidates
from pipeline.training.commit_store import commit_counts
from pipeline.training.pairs import Candidate

BOT = pygit2.Signature("renovate[bot]", "bot@example.org", AUTHOR.time, 0)

RETRY = '''\
def retry(request, times):
    """Sends a request several times."""
    for attempt in range(times):
        answer = request.send()
        if answer.ok:
            return answer
    raise Exhausted(times)
'''
WAITING = RETRY.replace("        if answer", "        sleep(2 ** attempt)\n        if answer")
PARSE = "def parse(text):\n    fields = text.split(',')\n    return [each.strip() for each in fields]\n"
QUOTED = PARSE.replace("text.split(',')", "split_quoted(text, ',')")


@pytest.fixture
def made(tmp_path: Path) -> GitRepository:
    made = GitRepository(tmp_path / "made")
    made.commit({"net.py": RETRY, "text.py": PARSE}, message="Initial commit")
    return made


@pytest.fixture
def mine(db: Database, settings: Settings, made: GitRepository) -> Callable[..., list[Mined]]:
    """Extracts the repository as it is now and reads its history."""
    add_repository(db, "made", str(made.path))
    tokens = token_budget("minilm")

    def run(**changed: object) -> list[Mined]:
        extract_repository(db, get_repository(db, "made"), settings, tokens, Silent())
        return mine_commits(db, settings.model_copy(update=changed), Silent())

    return run


def candidates(db: Database, settings: Settings, **changed: object) -> tuple[list[Candidate], Counter[str]]:
    with db.connect() as connection:
        return commit_candidates(connection, settings.model_copy(update=changed))


def counts(db: Database) -> dict[str, int]:
    with db.connect() as connection:
        return commit_counts(connection).get("made", {})


def test_a_commit_says_what_the_function_does_that_it_changed(
    db: Database, settings: Settings, made: GitRepository, mine: Callable[..., list[Mined]]
) -> None:
    commit = made.commit(
        {"net.py": WAITING, "text.py": PARSE},
        message="feat: wait longer after each failure (#12)\n\nCloses #3",
    )
    assert mine() == [Mined("made", 2, 0, 0)]
    found, dropped = candidates(db, settings)
    assert [(each.origin, each.query, each.language) for each in found] == [
        ("commit", "wait longer after each failure", "python")
    ]
    # What a search would find, so with its documentation.
    assert found[0].text == WAITING.rstrip()
    assert '"""' not in found[0].code
    assert found[0].weight == settings.commit_weight < settings.positive_confidence
    because = found[0].because
    assert (because["commit"], because["symbol"], because["functions"]) == (commit[:12], "retry", 1)
    assert "Author" not in str(because)
    assert not dropped
    assert counts(db) == {"used": 1, "message too short": 1}


def test_every_reason_to_leave_a_commit_out_is_counted(
    db: Database, made: GitRepository, mine: Callable[..., list[Mined]]
) -> None:
    files: dict[str | bytes, Entry] = {"net.py": WAITING, "text.py": PARSE}
    made.commit(files, message="Wait longer after each failure", author=BOT)
    made.commit(files | {"README.md": "x"}, message="Explain how long is waited")
    made.commit(files | {"text.py": f"# Text\n{PARSE}"}, message="Say what this module is about")
    made.commit(
        files | {"tests/test_net.py": "def test_retry():\n    assert retry(x, 1)\n"},
        message="Retry with one attempt only",
    )
    many: dict[str | bytes, Entry] = {f"f{n}.py": f"def f{n}(a):\n    return a + {n}\n" for n in range(8)}
    made.commit(files | many, message="Many small functions at once")
    made.commit(files | {f"{n}.md": "x" for n in range(30)}, message="Many pages about the retries")
    undone = made.commit(files | {"text.py": QUOTED}, message="Keep commas that stand in quotes")
    made.commit(files, message=f'Revert "Keep commas"\n\nThis reverts commit {undone}.')
    main = str(made.git.references["refs/heads/main"].target)
    made.commit(files, message="Merge the branch of retries", parents=[main, undone])
    made.commit(files | {"text.py": QUOTED}, message="Drop the old way of splitting")
    made.commit(files, message="Fix it")
    mine()
    assert counts(db) == {
        "by a bot": 1,
        "no code": 1,
        "comments, layout or no function": 1,
        "tests and examples only": 1,
        "too many functions": 1,
        "too many files": 1,
        "reverted later": 1,
        "revert": 1,
        "merge": 1,
        "about what was removed": 1,
        "message too short": 2,  # the last, and "Initial commit"
    }


def test_a_history_is_read_once_and_only_what_is_new_after_that(
    db: Database, settings: Settings, made: GitRepository, mine: Callable[..., list[Mined]]
) -> None:
    made.commit({"net.py": WAITING, "text.py": PARSE}, message="Wait longer after each failure")
    assert mine() == [Mined("made", 2, 0, 0)]
    assert mine() == []
    made.commit({"net.py": WAITING, "text.py": QUOTED}, message="Keep commas that stand in quotes")
    assert mine() == [Mined("made", 1, 2, 0)]
    # Fewer commits are looked at now; what was found stays.
    assert mine(max_commits=1) == [Mined("made", 0, 3, 0)]
    assert len(candidates(db, settings)[0]) == 2
    # A revert undoes what is known already.
    undone = str(made.git.references["refs/heads/main"].target)
    made.commit({"net.py": WAITING, "text.py": PARSE}, message=f"Back out\n\nThis reverts commit {undone}.")
    assert mine() == [Mined("made", 1, 3, 0)]
    assert counts(db)["reverted later"] == 1
    assert [each.query for each in candidates(db, settings)[0]] == ["Wait longer after each failure"]
    # Another rule reads all of it anew.
    assert mine(max_commit_functions=1) == [Mined("made", 4, 0, 0)]
    assert mine(max_commits=0) == []
    assert candidates(db, settings, max_commits=0) == ([], Counter())


def test_the_newest_commits_are_read_when_there_are_more_than_enough(
    db: Database, made: GitRepository, mine: Callable[..., list[Mined]]
) -> None:
    for n in range(6):
        made.commit(
            {"net.py": RETRY.replace("ok", f"ok{n}")}, message=f"Look at field number {n} of the answer"
        )
    assert mine(max_commits=4) == [Mined("made", 4, 0, 0)]
    assert counts(db) == {"used": 4}


def test_a_force_push_forgets_what_is_no_longer_in_the_history(
    db: Database, settings: Settings, made: GitRepository, mine: Callable[..., list[Mined]]
) -> None:
    first = str(made.git.references["refs/heads/main"].target)
    made.commit({"net.py": WAITING, "text.py": PARSE}, message="Wait longer after each failure")
    mine()
    made.commit(
        {"net.py": WAITING, "text.py": PARSE},
        message="Back off exponentially after failures",
        parents=[first],
    )
    assert mine() == [Mined("made", 1, 1, 1)]
    assert [each.query for each in candidates(db, settings)[0]] == ["Back off exponentially after failures"]


def test_what_became_of_a_function_decides(
    db: Database, settings: Settings, made: GitRepository, mine: Callable[..., list[Mined]]
) -> None:
    made.commit({"net.py": WAITING, "text.py": PARSE}, message="Wait longer after each failure")
    made.commit({"net.py": WAITING, "text.py": QUOTED}, message="Keep commas that stand in quotes")
    # One moves to another file, one becomes something else.
    other = "def parse(text):\n    import json\n    return json.loads(text, object_hook=Record)\n"
    made.commit({"lib/again.py": WAITING, "text.py": other}, message="Parse records written in JSON")
    mine()
    found, dropped = candidates(db, settings)
    assert {each.query: each.because["path"] for each in found} == {
        "Wait longer after each failure": "lib/again.py",
        "Parse records written in JSON": "text.py",
    }
    assert dropped == {"the function has become another": 1}
    # Then it is gone.
    made.commit({"text.py": other}, message="Cleanup")
    mine()
    found, dropped = candidates(db, settings)
    assert [each.query for each in found] == ["Parse records written in JSON"]
    assert dropped == {"the function has become another": 1, "the function is gone": 1}


def test_a_detail_of_a_long_function_is_no_answer_and_no_negative(
    db: Database, settings: Settings, made: GitRepository, mine: Callable[..., list[Mined]]
) -> None:
    long = "def long(a):\n" + "".join(f"    a = step_{n}(a, {n})\n" for n in range(40)) + "    return a\n"
    made.commit({"net.py": RETRY, "text.py": PARSE, "long.py": long}, message="Cleanup")
    made.commit(
        {"net.py": WAITING, "text.py": PARSE, "long.py": long.replace("step_3(", "stage_3(")},
        message="Wait longer after each failure",
    )
    mine()
    found, dropped = candidates(db, settings)
    assert [each.because["symbol"] for each in found] == ["retry"]
    assert dropped == {"a detail of a long function": 1}
    assert len(found[0].unsure) == 1
    both, _ = candidates(db, settings, min_commit_change=0.0)
    assert [each.weight for each in both] == [settings.commit_weight / 2] * 2
    assert len({each.group_key for each in both}) == 1


def test_the_tests_a_commit_changed_are_no_negatives_for_it(
    db: Database, settings: Settings, made: GitRepository, mine: Callable[..., list[Mined]]
) -> None:
    test = "def test_waiting():\n    start = now()\n    retry(broken, 3)\n    assert now() - start > 3\n"
    made.commit(
        {"net.py": WAITING, "text.py": PARSE, "tests/test_net.py": test},
        message="Wait longer after each failure",
    )
    mine()
    found, dropped = candidates(db, settings)
    assert [each.because["symbol"] for each in found] == ["retry"]
    assert not dropped
    with db.connect() as connection:
        row = connection.execute("SELECT content_hash FROM snippets WHERE symbol = 'test_waiting'").fetchone()
    assert row is not None
    assert found[0].unsure == {row[0]}


def test_words_of_many_commits_and_the_same_commit_twice(
    db: Database, settings: Settings, made: GitRepository, mine: Callable[..., list[Mined]]
) -> None:
    for n in range(4):
        made.commit({"net.py": RETRY.replace("ok", f"ok{n}")}, message="Look at the right field")
    made.commit({"net.py": WAITING}, message="Wait longer after each failure")
    mine()
    add_repository(db, "again", str(made.path), ref="main")
    extract_repository(db, get_repository(db, "again"), settings, token_budget("minilm"), Silent())
    assert mine_commits(db, settings, Silent()) == [Mined("again", 6, 0, 0)]
    found, dropped = candidates(db, settings)
    assert [each.query for each in found] == ["Wait longer after each failure"] * 2
    assert dropped == {"a message of many commits": 8}
    remove_repository(db, "again")
    assert len(candidates(db, settings)[0]) == 1


def test_a_function_in_parts_is_compared_whole(
    db: Database, settings: Settings, made: GitRepository, mine: Callable[..., list[Mined]]
) -> None:
    long = (
        "def long(a):\n" + "".join(f"    a = step_{n}(a, first={n})\n" for n in range(120)) + "    return a\n"
    )
    made.commit({"long.py": long}, message="Take all the steps there are")
    mine()
    with db.connect() as connection:
        parts = connection.execute("SELECT count(*) FROM snippets WHERE symbol LIKE 'long@%'").fetchone()
    assert parts is not None
    assert parts[0] > 1
    found, _ = candidates(db, settings)
    assert [each.because["symbol"] for each in found] == ["long"]
    assert found[0].because["likeness"] > 0.9


def test_a_repository_that_cannot_be_read_keeps_what_was_found(
    db: Database, settings: Settings, made: GitRepository, mine: Callable[..., list[Mined]]
) -> None:
    made.commit({"net.py": WAITING, "text.py": PARSE}, message="Wait longer after each failure")
    mine()
    made.commit({"net.py": WAITING, "text.py": QUOTED}, message="Keep commas that stand in quotes")
    extract_repository(db, get_repository(db, "made"), settings, token_budget("minilm"), Silent())
    made.path.rename(made.path.with_name("elsewhere"))
    assert mine_commits(db, settings, Silent()) == []
    assert [each.query for each in candidates(db, settings)[0]] == ["Wait longer after each failure"]


def test_the_history_of_a_url_is_read_from_its_clone(
    db: Database, settings: Settings, made: GitRepository
) -> None:
    made.commit({"net.py": WAITING, "text.py": PARSE}, message="Wait longer after each failure")
    made.commit(
        {"net.py": WAITING, "text.py": QUOTED},
        "refs/heads/next",
        message="Keep quoted commas together",
        parents=[str(made.git.references["refs/heads/main"].target)],
    )
    add_repository(db, "made", f"file://{made.path}", ref="next")
    extract_repository(db, get_repository(db, "made"), settings, token_budget("minilm"), Silent())
    made.path.rename(made.path.with_name("elsewhere"))  # nothing is fetched for it
    assert mine_commits(db, settings, Silent()) == [Mined("made", 3, 0, 0)]
    assert {each.query for each in candidates(db, settings)[0]} == {
        "Wait longer after each failure",
        "Keep quoted commas together",
    }
