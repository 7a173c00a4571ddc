"""Git repositories at a URL: cloned bare under the home, and fetched each time they are read.

A clone belongs to a URL, so several refs of one repository share it. No URL with credentials is accepted, so
none is stored or shown; private repositories are read over ssh, with the agent's keys.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pygit2
from pygit2.enums import CredentialType, Option

from pipeline.config import Settings
from pipeline.corpus.sources.base import SourceError, first_line, printable
from pipeline.corpus.sources.git import GIT_ERRORS, open_repository, trust_any_owner
from pipeline.errors import BadInputError
from pipeline.locking import locked

HALF_MADE = ".partial"
# Neither http:// nor git://: whoever stands between could put in any code, which everyone would then find. No
# ext:: or other transport that runs a program. file:// is a local path written as a URL.
SCHEMES = ("https", "ssh", "file")
# git@host:path, as ssh understands it. A hyphen in front would make an option of it for an ssh program.
_SCP = re.compile(r"(?P<user>\w[A-Za-z0-9._-]*)@(?P<host>\w[A-Za-z0-9._-]*):(?P<path>[^:\s]+)", re.ASCII)
_CREDENTIALS = re.compile(r"(?<=//)[^/@\s]*@")
# As in a mirror: what the remote calls a branch is called the same here.
_REFSPECS: tuple[str, ...] = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")


def is_url(location: str) -> bool:
    """Whether this is a URL (`scheme://…` or `git@host:path`) rather than a path or a name."""
    return "://" in location or _SCP.fullmatch(location) is not None


def check_url(url: str) -> str:
    """The URL, if it is one that can be read.

    Raises:
        BadInputError: another scheme, no host, or credentials in it; the message never repeats the latter.
    """
    if _SCP.fullmatch(url):
        return url
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise BadInputError("The URL is malformed.", hint=f"Its form is {_FORMS}.") from error
    if parts.scheme not in SCHEMES:
        scheme = printable(parts.scheme[:20])
        raise BadInputError(f"A git repository is not read over {scheme}://.", hint=f"Use {_FORMS}.")
    if parts.password is not None or (parts.username is not None and parts.scheme != "ssh"):
        raise BadInputError(
            f"The URL of {parts.hostname} carries credentials, which would be stored and shown.",
            hint="Leave them out: use ssh://git@… and your agent's key, or clone it and register the path.",
        )
    if parts.query or parts.fragment:
        raise BadInputError(
            f"The URL of {parts.hostname} has a query or fragment, which may carry credentials.",
            hint="Leave out what follows `?` or `#`; name a branch with --ref.",
        )
    if any(c.isspace() or not c.isprintable() for c in url) or not parts.path.strip("/"):
        raise BadInputError("The URL names no repository.", hint=f"Its form is {_FORMS}.")
    if parts.scheme == "file":
        if parts.hostname not in (None, "localhost"):
            raise BadInputError(
                "A file:// URL names a path on this machine.", hint="Its form is file:///path."
            )
    elif not parts.hostname or parts.hostname.startswith("-") or (parts.username or "").startswith("-"):
        raise BadInputError("The URL names no host.", hint=f"Its form is {_FORMS}.")
    return url


_FORMS = "https://host/path, ssh://git@host/path, git@host:path or file:///path"


def clone_path(url: str, settings: Settings) -> Path:
    """Where the clone of a URL lies."""
    word = re.sub(r"[^A-Za-z0-9._-]+", "-", url.rstrip("/").rpartition("/")[2]).strip(".-")
    name = word.removesuffix(".git") or "repository"
    return settings.home_path / "clones" / f"{name[:60]}-{hashlib.sha256(url.encode()).hexdigest()[:12]}.git"


def fetched_clone(url: str, ref: str | None, settings: Settings) -> pygit2.Repository:
    """The clone of a URL, made or brought up to date now.

    A killed clone leaves nothing that the next one would take for whole.

    Raises:
        SourceError: the URL cannot be reached or read.
    """
    path = clone_path(url, settings)
    _prepare(url, settings)
    with _locked(path):
        if path.exists():
            try:
                repository = open_repository(path)
            except SourceError:  # damaged: it holds nothing that the URL does not
                shutil.rmtree(path)
            else:
                _fetch(repository, url, ref)
                return repository
        partial = path.with_suffix(HALF_MADE)
        shutil.rmtree(partial, ignore_errors=True)
        try:
            _fetch(pygit2.init_repository(str(partial), bare=True), url, ref)
            os.rename(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return open_repository(path)


def remote_commit(url: str, ref: str | None, settings: Settings) -> str | None:
    """The commit a ref names at a URL now, asked of the server without fetching anything.

    None: the server does not say, because the ref is no branch, tag or hash, or because it is gone.

    Raises:
        SourceError: the URL cannot be reached or read.
    """
    _prepare(url, settings)
    if ref is not None and re.fullmatch("[0-9a-f]{40}", ref):
        return ref
    with tempfile.TemporaryDirectory() as nowhere, _told(url):
        remote = pygit2.init_repository(nowhere, bare=True).remotes.create_anonymous(url)
        heads = {head.name: head.oid for head in remote.list_heads(callbacks=_Callbacks(), proxy=True)}
    for name in ("HEAD",) if ref is None else (ref, f"refs/tags/{ref}", f"refs/heads/{ref}"):
        # What an annotated tag stands for is listed under its name and this.
        if (oid := heads.get(f"{name}^{{}}", heads.get(name))) is not None:
            return str(oid)
    return None


def remove_clone(url: str, settings: Settings) -> None:
    """Deletes the clone of a URL, if there is one."""
    path = clone_path(url, settings)
    if path.parent.exists():
        with _locked(path):
            shutil.rmtree(path, ignore_errors=True)
            shutil.rmtree(path.with_suffix(HALF_MADE), ignore_errors=True)


def lock_of(path: Path) -> Path:
    """What is held while the clone that lies there is made, fetched or deleted."""
    return path.with_suffix(".lock")


def _prepare(url: str, settings: Settings) -> None:
    try:
        check_url(url)
    except BadInputError as error:  # registered when more was allowed
        raise SourceError(error.message, hint=error.hint) from error
    trust_any_owner()  # of a file:// URL
    milliseconds = settings.fetch_timeout_seconds * 1000
    pygit2.option(Option.SET_SERVER_CONNECT_TIMEOUT, milliseconds)
    pygit2.option(Option.SET_SERVER_TIMEOUT, milliseconds)


@contextmanager
def _locked(path: Path) -> Generator[None]:
    # Two refs of one URL may be extracted at once, in two processes.
    with locked(lock_of(path)):
        yield


def _fetch(repository: pygit2.Repository, url: str, ref: str | None) -> None:
    specs: list[str] = list(_REFSPECS)
    if ref is not None and ref.startswith("refs/") and not ref.startswith(("refs/heads/", "refs/tags/")):
        specs.append(f"+{ref}:{ref}")  # such as refs/pull/7/head, which is fetched only when asked for
    callbacks = _Callbacks()
    with _told(url):
        remote = repository.remotes.create_anonymous(url)
        remote.connect(callbacks=callbacks, proxy=True)
        heads = {head.name: head for head in remote.list_heads(connect=False)}
        # Before the fetch, not by it: a branch `a` that is gone would be in the way of a new one, `a/b`.
        for name in list(repository.references):
            if name not in heads:
                repository.references.delete(name)
        remote.fetch(specs, callbacks=callbacks, proxy=True)
        # It names the URL that was really used: with credentials, if the user's git configuration adds some.
        (Path(repository.path) / "FETCH_HEAD").unlink(missing_ok=True)
        if (head := heads.get("HEAD")) is not None:
            repository.set_head(head.symref_target or head.oid)


@contextmanager
def _told(url: str) -> Generator[None]:
    """Turns what libgit2 says of a URL into a SourceError with what to do about it."""
    try:
        yield
    except GIT_ERRORS as error:
        if url.startswith("file:"):
            hint = "Check the path."
        elif "://" in url and not url.startswith("ssh:"):
            hint = (
                "Check the URL and the network. Private repositories are read over ssh, or from your clone."
            )
        else:
            hint = "Check the URL, the network, your known_hosts, and that your ssh agent has the key."
        said = _CREDENTIALS.sub("***@", first_line(error.args))
        raise SourceError(f"{url} cannot be fetched: {said}.", hint=hint) from error


class _Callbacks(pygit2.RemoteCallbacks):
    """Answers with the ssh agent's keys, once; certificates and host keys are left to libgit2 to judge."""

    def __init__(self) -> None:
        super().__init__()
        self._asked = False

    def credentials(
        self, url: str, username_from_url: str | None, allowed_types: CredentialType
    ) -> pygit2.Username | pygit2.Keypair:
        if allowed_types & CredentialType.USERNAME:
            return pygit2.Username(username_from_url or "git")
        # Asked again means refused: answering the same for ever would never end.
        if self._asked or not allowed_types & CredentialType.SSH_KEY:
            raise pygit2.GitError("it asks for credentials that are not there")
        self._asked = True
        return pygit2.KeypairFromAgent(username_from_url or "git")
