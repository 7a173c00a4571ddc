"""Commit messages as queries: what is cut out of them, and which say nothing of what they changed."""

from __future__ import annotations

import pytest

from pipeline.training.commit_messages import left_out, query_of, reverted_by, unusable

ANN = "Ann Author <ann@example.org>"


@pytest.mark.parametrize(
    ("message", "query"),
    [
        ("Retry a request with backoff", "Retry a request with backoff"),
        ("feat(http): retry a request with backoff (#123)", "retry a request with backoff"),
        ("fix!: retry a request with backoff", "retry a request with backoff"),
        ("refactor(ctx):avoid a copy of the headers", "avoid a copy of the headers"),
        ("walk: flush standard output in batches", "walk: flush standard output in batches"),
        ("GH-12: Retry a request with backoff", "Retry a request with backoff"),
        ("bpo-4711: Retry a request with backoff (GH-99)", "Retry a request with backoff"),
        ("PROJ-42 Retry a request with backoff", "Retry a request with backoff"),
        ("[PROJ-42] Retry a request with backoff", "Retry a request with backoff"),
        ("#77 - Retry a request with backoff", "Retry a request with backoff"),
        ("Fix #252 Escape the redirect header", "Escape the redirect header"),
        ("fixes #252: escape the redirect header", "escape the redirect header"),
        ("Handle defaults for a context.  This fixes #201", "Handle defaults for a context."),
        ("Escape the header, fixes owner/name#12", "Escape the header"),
        ("UTF-8 names in multipart forms", "UTF-8 names in multipart forms"),
        ("Encode as UTF-8 and hash with SHA-256", "Encode as UTF-8 and hash with SHA-256"),
        (":bug: Retry a request with backoff", "Retry a request with backoff"),
        ("✨ Retry a request with backoff", "Retry a request with backoff"),
        ("Retry a request with backoff [skip ci]", "Retry a request with backoff"),
        ("Fix the end of input introduced in 262bdf0", "Fix the end of input"),
        ("Read the defaced facade 1234567 times", "Read the defaced facade 1234567 times"),
        ("Make `raise_for_status()` chainable", "Make raise_for_status chainable"),
        ("Read from .rst, and if err != nil fail", "Read from .rst, and if err != nil fail"),
        ("See https://example.org/x for the retry policy", "See for the retry policy"),
        # The body: its first paragraph of prose, without trailers, lists, code and links
        (
            "Retry a request\n\nThe wait doubles each time until the limit.\n\nSigned-off-by: Ann <a@b.org>",
            "Retry a request. The wait doubles each time until the limit.",
        ),
        (
            "Retry a request\r\n\r\n* lint\r\n* review\r\n\r\nCo-authored-by: Bob <b@c.org>\r\n",
            "Retry a request",
        ),
        (
            "Retry a request\n\n```\nretry(3)\n```\n\nThe wait doubles each time until the limit.\nCloses #3",
            "Retry a request. The wait doubles each time until the limit.",
        ),
        ("Retry a request\n\n    some(code);\n    more(code);", "Retry a request"),
        (
            "Retry a request\n\nSee https://example.org/why for more. The wait doubles until the limit.",
            "Retry a request. The wait doubles until the limit.",
        ),
        ("Retry a request\n\nold ns/op 249 237 4.82\nnew ns/op 454 390 14.1", "Retry a request"),
        ("Retry a request with backoff\n\nRetry a request with backoff.", "Retry a request with backoff"),
        ("\n\n  Retry a request\n  with backoff\n", "Retry a request with backoff"),
        ("(cherry picked from commit 0123abc)", ""),
        (
            "Retry a request\n\nIt was broken by #3 and by #4 since. The wait doubles until the limit.",
            "Retry a request. The wait doubles until the limit.",
        ),
        ("Fix #723", ""),
        ("", ""),
        ("用户登录并返回会话 (#3)", "用户登录并返回会话"),
    ],
)
def test_a_message_becomes_a_query(message: str, query: str) -> None:
    assert query_of(message) == query


# A technical name within a sentence is what the sentence is about, however much it looks like a ticket.
@pytest.mark.parametrize(
    "message",
    [
        "Support GPT-4 in the client of completions",
        "Round halves as IEEE-754 says they are",
        "Decode BASE-64 with or without padding",
        "Read PKCS-12 files",
        "Hash names with SHA-256",
        "Print dates as ISO-8601",
        "Send a cookie as RFC-6265 has it",
        "GPT-4 answers are streamed",
        "Fix SHA-256 of empty files",
        "Fix UTF-8",
        "Names of files are decoded (UTF-8)",
        "UTF-16: read the byte order mark",
        "Prefer GPT-4.5 to GPT-4",
        "Round numbers in IEEE-754-2008 mode",
        "Run on MIPS-32, ARM-64 and X86-64",
        # Names that nobody told of: where they stand says that they are no tickets
        "Train adapters of LORA-16 on the encoder",
        "Read frames of MODBUS-2 from the socket",
        "Write the archive as TAPE-9",
        "Fix LORA-16 in the encoder",
        "Pass the LORA-16 adapters on",
        "Look at the issue tracker for COBALT-60 sources",
    ],
)
def test_a_technical_name_stays(message: str) -> None:
    assert query_of(message) == message


@pytest.mark.parametrize(
    "message",
    [
        "PROJ-123: Double the wait of a request",
        "PROJ-123 - Double the wait of a request",
        "PROJ-123 | Double the wait of a request",
        "PROJ-123, ABC-12: Double the wait of a request",
        "[ABC-12] Double the wait of a request",
        "fix(http): ABC-12 Double the wait of a request",
        "Fix ABC-12: Double the wait of a request",
        "Double the wait of a request (ABC-12)",
        "Double the wait of a request [ABC-12]",
        "Double the wait of a request (ABC-12, ABC-13)",
        "Double the wait of a request (fixes ABC-12)",
        "Double the wait of a request ABC-12",
        "Double the wait of a request - ABC-12",
        "Double the wait of a request for ABC-1234",
        "Double the wait of a request, fixes ABC-12",
        "Double the wait of a request, see ABC-12 and ABC-13",
        "Double the wait of a request, issue ABC-12",
        "Double the wait of a request #123",
        "Double the wait of a request (#123)",
    ],
)
def test_a_ticket_goes(message: str) -> None:
    assert query_of(message) == "Double the wait of a request"


WAIT = "The wait doubles each time until the limit."


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        # What git takes for trailers: all lines of the last paragraph
        (f"{WAIT}\n\nBug: 12\nReviewed-on: https://example.org/1\nTested-by: Ann\n at the office", WAIT),
        (f'{WAIT}\n\nFixes: 0123abc ("Wait")\nCc: stable@example.org', WAIT),
        (f"{WAIT}\nReviewed-by: Ann", WAIT),
        (f"{WAIT}\nIssue: ABC-12", WAIT),
        ("Cc: Ann\nCloses-Bug: #1", ""),
        # What is a sentence, or stands elsewhere
        (
            "Fix: the wait doubles each time until the limit",
            "Fix: the wait doubles each time until the limit",
        ),
        (
            "See: the wait doubles each time.\nThat was not so.",
            "See: the wait doubles each time. That was not so.",
        ),
        (
            f"Applies-to: requests that were sent again.\n\n{WAIT}",
            "Applies-to: requests that were sent again.",
        ),
        # The fields of a review
        (
            "Summary: the wait doubles each time until the limit.\n\nTest Plan: ran every test there is of it"
            "\n\nReviewers: ann, bob\n\nDifferential Revision: https://example.org/D12",
            "the wait doubles each time until the limit.",
        ),
        (f"Summary:\nSimilar to D1019016. {WAIT}\n\nReviewed By: ann", WAIT),
        ("Test Plan:\nStarted the server and looked at its log for a while.", ""),
    ],
)
def test_trailers_and_fields_of_a_review_go_and_sentences_stay(body: str, kept: str) -> None:
    assert query_of(f"Retry a request\n\n{body}") == f"Retry a request. {kept}".removesuffix(". ")


def test_a_long_message_is_cut_after_a_sentence() -> None:
    query = query_of("Retry a request\n\n" + "Each of these sentences has just eight words. " * 30)
    assert query.endswith("words.")
    assert len(query.split()) < 65


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("Retry a request with backoff", None),
        ("merge_exit_codes takes any iterable of codes", None),
        ("Merge sorted lists without copying them", None),
        ("Add black listing of hosts to the proxy", None),
        ("Parse the grammar of a query", None),
        ("Format dates by the user's locale", None),
        ("Revert the order of the parents on demand", "revert"),
        ('Revert "Retry a request"\n\nThis reverts commit 0123456789.', "revert"),
        ("revert: retry a request", "revert"),
        ("Merge pull request #1 from a/b", "merge"),
        ("Merge branch 'main' into next", "merge"),
        ("docs: explain the retry policy of requests", "housekeeping"),
        ("chore(deps): pin the version of the client", "housekeeping"),
        ("Bump pytest from 7.3.1 to 7.4.0", "housekeeping"),
        ("Release 1.2", "housekeeping"),
        ("Release the connections of HTTP/1.1 after each request", None),
        ("Release candidate", "housekeeping"),
        ("Prepare for 1.2", "housekeeping"),
        ("Prepare for the release candidate 3.20.0 RC2", "housekeeping"),
        ("Start 1.3 development", "housekeeping"),
        ("Bump", "housekeeping"),
        ("Bump version", "housekeeping"),
        ("bump the version of the package to 2", "housekeeping"),
        ("Bump actions/checkout in the workflow of releases", "housekeeping"),
        ("Bump urllib3 and requests", "housekeeping"),
        ("Bump retries", "housekeeping"),
        ("Bump the counter when a request fails", None),
        ("Bump the limit of open files to 100", None),
        ("Bump counters of failed requests by their host", None),
        ("Release the lock on failure", None),
        ("Release memory of closed pools", None),
        ("Start the timer after 0.5 seconds", None),
        ("Prepare a request for HTTP/1.1", None),
        ("Upgrade to node 18", "housekeeping"),
        ("Switch the default to 5 retries", None),
        ("v1.4.0", "housekeeping"),
        ("Update to clap 4.1", "housekeeping"),
        ("Run black over everything", "formatting only"),
        ("Please the linter in the retry module", "formatting only"),
        ("gofmt", "formatting only"),
        ("Fix a typo in the retry message", "about tests, documentation or types"),
        ("Update the README", "about tests, documentation or types"),
        ("Add type hints to the retry module", "about tests, documentation or types"),
        ("Fix the annotation of the url", "about tests, documentation or types"),
        ("Add missing tests", "about tests, documentation or types"),
        ("Refactor the retry module", "about the shape of the code"),
        ("Apply suggestions from code review on retries", "about the shape of the code"),
        ("Move the header functions from _utils.py to _models.py", "about the shape of the code"),
        ("Rename the matcher of URLs", "about the shape of the code"),
        ("Move the cursor to the end of the line", None),
        ("Remove the deprecated retry option", "about what was removed"),
        ("fixup! Retry a request with backoff", "uninformative message"),
        ("Some code improvements", "uninformative message"),
        ("Fix bad merge in changes", "uninformative message"),
        ("Address more review comments again", "about the shape of the code"),
        ("Fix it", "message too short"),
        ("wip", "message too short"),
        ("Fix #723", "message too short"),
        ("123 456 (7, 8) -> [9] {0} x = y ok no", "uninformative message"),
    ],
)
def test_what_says_nothing_of_the_code_is_left_out(message: str, reason: str | None) -> None:
    assert left_out(message, ANN) == reason


@pytest.mark.parametrize(
    ("author", "is_bot"),
    [
        (ANN, False),
        ("Robert Abbott <abbott@example.org>", False),
        ("Travis Oliver <travis@example.org>", False),
        ("Gerrit Jenkins <gerrit@example.org>", False),
        ("Jenkins <ci@example.org>", True),
        ("Travis-CI <builds@example.org>", True),
        ("release-automation <r@example.org>", True),
        ("Botond <botond@example.org>", False),
        ("dependabot[bot] <49699333+dependabot[bot]@users.noreply.github.com>", True),
        ("pre-commit-ci[bot] <66853113+pre-commit-ci[bot]@users.noreply.github.com>", True),
        ("Renovate Bot <bot@renovateapp.com>", True),
        ("k8s-ci-robot <k8s-ci-robot@users.noreply.github.com>", True),
    ],
)
def test_programs_are_told_from_people(author: str, is_bot: bool) -> None:
    assert (left_out("Retry a request with backoff", author) == "by a bot") is is_bot


def test_what_is_reverted_is_named() -> None:
    message = 'Revert "A"\n\nThis reverts commit ABCDEF1234567.\nThis reverts commit 7654321.'
    assert reverted_by(message) == ["abcdef1234567", "7654321"]
    assert reverted_by("Nothing") == []


def test_words_in_a_script_without_spaces_count() -> None:
    assert unusable("用户登录并返回会话") is None
    assert unusable("修复") == "message too short"
