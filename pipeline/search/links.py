"""Links to a file and its lines at a hosting service, for code that came from one."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from cachetools import TTLCache

from pipeline.corpus.sources.base import SourceError
from pipeline.corpus.sources.clones import is_url
from pipeline.corpus.sources.git import GIT_ERRORS, open_repository

# A person may add a remote, or push: looked at anew after this long.
REMEMBERED_SECONDS = 300.0
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# git's short form of an SSH address: user@host:path, with no slash before the colon.
_SHORT = re.compile(r"(?:[^@/:]+@)?(?P<host>[A-Za-z0-9.-]+):(?!/)(?P<path>.+)")


@dataclass(frozen=True)
class Origin:
    """Where a snippet was read: a repository's kind and location, the commit or release, and the lines."""

    kind: str
    location: str
    commit: str | None
    start_line: int
    end_line: int


@dataclass(frozen=True)
class Hosted:
    """A repository at a hosting service whose addresses are known."""

    service: str
    root: str

    def lines(self, commit: str, path: str, start: int, end: int) -> str:
        """The address of these lines of a file as it was at a commit."""
        file = quote(path, safe="/")
        match self.service:
            case "github":
                return f"{self.root}/blob/{commit}/{file}#L{start}-L{end}"
            case "gitlab":
                return f"{self.root}/-/blob/{commit}/{file}#L{start}-{end}"
            case "bitbucket":
                return f"{self.root}/src/{commit}/{file}#lines-{start}:{end}"
            case _:
                return f"{self.root}/src/commit/{commit}/{file}#L{start}-L{end}"


class Links:
    """Addresses of snippets, with what was found out about repositories remembered for a while.

    Safe for several threads: at worst two look at the same repository.
    """

    def __init__(self) -> None:
        self._published = TTLCache[tuple[str, str, str | None], Hosted | None, float](
            10_000, REMEMBERED_SECONDS
        )
        self._lock = threading.Lock()

    def url(self, origin: Origin, path: str, *, snippet_id: int) -> str:
        """At the hosting service if the commit is to be found there, else this service's own page.

        Args:
            origin: Where the snippet was read.
            path: Of its file, from the repository's root.
            snippet_id: Its number, for the page of its own: a relative address.
        """
        read = (origin.kind, origin.location, origin.commit)
        with self._lock:
            known = read in self._published
            hosted = self._published.get(read)
        if not known:
            hosted = find_hosted(*read)
            with self._lock:
                self._published[read] = hosted
        if hosted is None or origin.commit is None:
            return f"/snippets/{snippet_id}"
        return hosted.lines(origin.commit, path, origin.start_line, origin.end_line)


def find_hosted(kind: str, location: str, commit: str | None) -> Hosted | None:
    """The hosting service at which the commit can be looked at; None if none is known.

    Of a local repository it is that of the remote `origin`, if the commit was pushed there as far as the
    local repository knows: a link to a commit that only this machine has leads nowhere.
    """
    if kind != "git" or commit is None or not _COMMIT.fullmatch(commit):
        return None
    if is_url(location):
        return hosted_at(location)
    remote = _published_remote(location, commit)
    return None if remote is None else hosted_at(remote)


def hosted_at(url: str) -> Hosted | None:
    """The repository that a git remote's address names, if the service is one whose addresses are known.

    Services are known by their host's name, also where a company runs one of its own: github.example.com.
    User names, passwords and tokens in the address are left out.
    """
    short = None if "://" in url else _SHORT.fullmatch(url)
    if short is not None:
        host, port, path = short["host"], None, short["path"]
    else:
        try:
            parts = urlsplit(url)
            host, path = parts.hostname or "", parts.path
            port = parts.port if parts.scheme in {"http", "https"} else None
        except ValueError:
            return None
        if parts.scheme not in {"http", "https", "ssh", "git"}:
            return None
    path = path.strip("/").removesuffix(".git")
    service = _service(host.lower())
    if service is None or "/" not in path or not re.fullmatch(r"[\w.~/+-]+", path):
        return None
    return Hosted(service, f"https://{host.lower()}{f':{port}' if port else ''}/{path}")


def _service(host: str) -> str | None:
    labels = host.split(".")
    if host == "bitbucket.org":  # one's own Bitbucket has other addresses
        return "bitbucket"
    for name, service in (
        ("github", "github"),
        ("gitlab", "gitlab"),
        ("codeberg", "gitea"),
        ("gitea", "gitea"),
        ("forgejo", "gitea"),
    ):
        if name in labels:
            return service
    return None


def _published_remote(location: str, commit: str) -> str | None:
    """The address of the remote `origin` of a local repository, if a branch of it holds the commit."""
    try:
        repository = open_repository(Path(location))
        url = repository.remotes["origin"].url
        wanted = repository.get(commit)
        if url is None or wanted is None:
            return None
        for name in repository.references:
            if name.startswith("refs/remotes/origin/"):
                tip = repository.references[name].peel().id
                if tip == wanted.id or repository.descendant_of(tip, wanted.id):
                    return url
    except (SourceError, *GIT_ERRORS):
        return None  # moved, damaged or without such a remote: then there is no link to make
    return None
