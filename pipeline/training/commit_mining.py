"""Reads the histories of the registered git repositories: what commits say, and which functions they changed.

A history is read once. Later only new commits are looked at, and what was found in those that have become
older than `max_commits` stays. After a force-push what is in the new history stays, the rest is forgotten.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipeline.config import Settings
from pipeline.corpus import changed_functions, documentation, history, secrets
from pipeline.corpus.bounded.cutter import Cutter
from pipeline.corpus.bounded.limits import BeyondLimitsError
from pipeline.corpus.changed_functions import Function
from pipeline.corpus.decoding import decode
from pipeline.corpus.history import ChangedFunction, Changes, Commit, History, TooManyFilesError
from pipeline.corpus.languages import LANGUAGES, Language
from pipeline.corpus.repositories import Repository, list_repositories
from pipeline.corpus.secrets import Detector
from pipeline.corpus.sources.base import SourceError, printable
from pipeline.corpus.sources.opening import open_git_as_read
from pipeline.progress import Progress
from pipeline.store.connections import Database
from pipeline.training import commit_messages, commit_references, commit_store
from pipeline.training.commit_messages import left_out, query_of, reverted_by
from pipeline.training.commit_store import FoundCommit, FoundFunction, ReadHistory
from pipeline.training.near_duplicates import overlap, tokens_of

# Tests that a commit changed too are no negatives for it; a commit with more of them is no usual one.
MAX_ASIDE = 50
_DECIDING_MODULES = (
    commit_messages,
    commit_references,
    documentation,
    history,
    changed_functions,
    secrets,
)
# So much of a hash is looked up when a message names what it reverts.
_HASH_PREFIX = 7


@dataclass(frozen=True)
class Mined:
    """What one reading of a history did: commits looked at now, kept from before, and forgotten."""

    repository: str
    looked_at: int
    kept: int
    forgotten: int


def mine_commits(db: Database, settings: Settings, progress: Progress) -> list[Mined]:
    """Brings what is known of all registered git repositories' commits up to date with their snippets.

    A repository that cannot be read now is left as it is, and said.

    Args:
        db: Where.
        settings: `max_commits`, `max_commit_functions`, `max_commit_files`, `max_file_bytes`.
        progress: Told of each commit.

    Returns:
        One entry for each history that had to be read.
    """
    done: list[Mined] = []
    for repository in list_repositories(db) if settings.max_commits else ():
        if repository.kind != "git" or repository.commit_id is None:
            continue
        try:
            found = _mine(db, repository, settings, progress)
        except SourceError as error:
            progress.note(printable(f"The history of {repository.name} cannot be read: {error}"))
            continue
        if found is not None:
            done.append(found)
    return done


def _mine(db: Database, repository: Repository, settings: Settings, progress: Progress) -> Mined | None:
    assert repository.commit_id is not None
    wanted = ReadHistory(repository.commit_id, settings.max_commits, _rules(settings))
    with db.connect() as connection:
        before = commit_store.read_history(connection, repository.id)
        if before == wanted:
            return None
        same_rules = before is not None and before.rules == wanted.rules
        known = commit_store.known_commits(connection, repository.id) if same_rules else {}
    new: list[FoundCommit] = []
    detector = Detector(settings)
    with Cutter(settings) as cutter:

        def functions_in(source: bytes, language: Language) -> dict[str, Function]:
            return cutter.functions(detector.clean(decode(source).text.encode()).text, language)

        git = open_git_as_read(repository, settings)
        past = History(git, repository.commit_id, settings.max_file_bytes, functions_in)
        continued = before is not None and past.leads_to(before.tip)
        commits = list(past.commits(settings.max_commits))
        reverted = {prefix for commit in commits for prefix in reverted_by(commit.message)}
        with progress.stage(f"Reading the history of {repository.name}", len(commits)) as advance:
            for commit in commits:
                undone = _is_reverted(commit.id, reverted)
                if commit.id not in known:
                    new.append(_found(past, detector, commit, settings, undone=undone))
                elif undone and known[commit.id] is None:
                    new.append(FoundCommit(commit.id, commit.at, None, "reverted later", ()))
                advance(1)
    here = {commit.id for commit in commits}
    gone = [] if continued else [commit_id for commit_id in known if commit_id not in here]
    with db.connect() as connection:
        commit_store.save_history(connection, repository.id, wanted, new=new, gone=gone, anew=not same_rules)
    looked_at = sum(commit.commit_id not in known for commit in new)
    return Mined(repository.name, looked_at, len(known) - len(gone), len(gone))


def _is_reverted(commit_id: str, reverted: set[str]) -> bool:
    return any(
        commit_id.startswith(prefix)
        for prefix in reverted
        if prefix[:_HASH_PREFIX] == commit_id[:_HASH_PREFIX]
    )


def _found(
    past: History, detector: Detector, commit: Commit, settings: Settings, *, undone: bool
) -> FoundCommit:
    # From the cheapest to the dearest.
    reason = _reason_by_words(commit, undone=undone) or _reason_by_secrets(commit, detector)
    functions: tuple[FoundFunction, ...] = ()
    if reason is None:
        try:
            changes = past.changes(commit.id, settings.max_commit_files)
        except TooManyFilesError:
            reason = "too many files"
        except SourceError:
            reason = "objects are missing"
        else:
            reason = _reason_by_changes(changes, settings)
            if reason is None:
                beside = [_function(each, aside=True) for each in changes.aside[:MAX_ASIDE]]
                functions = (*(_function(each, aside=False) for each in changes.functions), *beside)
    return FoundCommit(commit.id, commit.at, None if reason else query_of(commit.message), reason, functions)


def _reason_by_words(commit: Commit, *, undone: bool) -> str | None:
    """Why a commit is left out by what is known without looking at its change; None if nothing is."""
    if commit.parents > 1:
        return "merge"
    if commit.cut_off:
        return "where a shallow clone begins"
    return "reverted later" if undone else left_out(commit.message, commit.author)


def _reason_by_secrets(commit: Commit, detector: Detector) -> str | None:
    """Left out whole: what stands around a secret in so short a text hardly says what the commit did."""
    try:
        return "a secret in the message" if detector.clean(commit.message.encode()).found else None
    except BeyondLimitsError:
        return "message too long"


def _reason_by_changes(changes: Changes, settings: Settings) -> str | None:
    """Why a commit is left out by what it changed; None if nothing speaks against it."""
    if len(changes.functions) > settings.max_commit_functions:
        return "too many functions"
    if changes.functions:
        return None
    if changes.aside:
        return "tests and examples only"
    return "comments, layout or no function" if changes.code_files else "no code"


def _function(changed: ChangedFunction, *, aside: bool) -> FoundFunction:
    change = 1.0
    if changed.before is not None:
        change = 1.0 - overlap(tokens_of(changed.before), tokens_of(changed.code))[1]
    return FoundFunction(changed.path, changed.symbol, changed.code, change, aside)


def _rules(settings: Settings) -> str:
    """What decides, beside its objects, what a commit gives."""
    parts = [
        str(settings.max_commit_functions),
        str(settings.max_commit_files),
        str(settings.max_file_bytes),
        Cutter(settings).limits,
        Detector(settings).version,
        *(language.version for language in LANGUAGES),
        _deciding_code(),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@cache
def _deciding_code() -> str:
    paths = [module.__file__ for module in _DECIDING_MODULES]
    return "\0".join(Path(path).read_text("utf-8") for path in (*paths, __file__) if path is not None)
