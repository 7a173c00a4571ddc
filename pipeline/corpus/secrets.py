"""Keys, tokens and passwords in code: recognised, and replaced before anything is made of the text.

The detector is Kingfisher (MongoDB's, with the rules of Betterleaks and Google's Veles), in this process: it
looks through 20 to 60 MB a second where parsing takes 5, and reaches nothing over the network. Its rules know
the form of a secret, so ordinary code has none; `secrets.yml` adds what they leave out.

A secret is replaced where it stands, and not its line left out: line numbers stay true, the rest of the line
is what people search for, and a file that lacks a line in the middle of a call parses as another one.
Replaced is the whole word that the detector's match is a part of, in case it saw only a part of the secret.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import Settings
from pipeline.corpus.bounded.limits import BeyondLimitsError
from pipeline.errors import BadInputError

if TYPE_CHECKING:
    from kingfisher_sdk import Finding, Scanner

# A name in every language, so that it parses where a secret stands without quotes.
REPLACEMENT = b"REDACTED"

_ASSIGNED = "assigned-secret"
_RULES = Path(__file__).with_name("secrets.yml")
# Comments by which people say that it is none, or may be known: this detector's and its kin's. They count on
# the secret's own lines, or alone on the line before; Kingfisher itself takes them for all lines around.
_ALLOWED = re.compile(
    rb"kingfisher:ignore|betterleaks:allow|gitleaks:allow|pragma:\s?(?:allow|white)list[ -]secret",
    re.IGNORECASE,
)
_COMMENT_ALONE = re.compile(rb"\s*(?:#|//|--|/\*|<!--|;|%)")
# What goes with a secret and is none: a rule looks for it only to know the other half for sure.
_COMPANION = re.compile(r"(?:-id|-name|-host|-url|-domain|-address|-repository)(?:\.\d+)?$")
# What a secret's word is made of; before it, no `=`, which stands between a name and its value.
_BEFORE = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-+/~"
_AFTER = _BEFORE + b"="
_LONGEST_REST = 500
# A secret that is found is looked for in the rest of its file, too, unless it is as short as a word.
_LEAST_SOUGHT, _MOST_SOUGHT = 12, 100
# What stays of a match: line ends with their indentation, quotes and escapes, so that what stands around it
# means what it meant.
_STAYS = re.compile(rb"""(\s*\n\s*|["'`]|\\[nrt])""")


@dataclass(frozen=True)
class Clean:
    """A text without secrets, and where they were: the line, from 1, and what the rule calls it."""

    text: bytes
    found: Sequence[tuple[int, str]] = ()


class Detector:
    """Finds secrets by the rules that the settings name. They are loaded, and kept, when first needed.

    Args:
        settings: `find_secrets`, `secret_rules`, `parse_seconds`.

    Raises:
        BadInputError: the file of rules cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._on = settings.find_secrets
        self._paths = [_RULES, *([settings.secret_rules] if settings.secret_rules else [])]
        self._seconds = settings.parse_seconds
        try:
            content = b"\0".join(path.read_bytes() for path in self._paths)
        except OSError as error:
            raise BadInputError(
                f"The rules for secrets in {settings.secret_rules} cannot be read: {error.strerror}.",
                hint="HONELOOP_SECRET_RULES names a YAML file.",
            ) from error
        self._rules = hashlib.sha256(content).hexdigest()[:12]

    @property
    def on(self) -> bool:
        """Whether secrets are looked for at all."""
        return self._on

    @property
    def version(self) -> str:
        """What decides which secrets are found: the detector and its rules."""
        return (
            f"kingfisher-{version('kingfisher-secret-scanner')}+{self._rules}" if self._on else "no-secrets"
        )

    def clean(self, text: bytes) -> Clean:
        """The same text with each secret replaced.

        Args:
            text: UTF-8 whose lines end in `\\n`.

        Raises:
            BeyondLimitsError: it took longer than parsing may.
            BadInputError: the file of rules is malformed.
        """
        if not self._on or not text:
            return Clean(text)
        scanner = _scanner(tuple(map(str, self._paths)), self._rules)
        try:
            found = scanner.scan(text, timeout=self._seconds)
        except TimeoutError as error:  # of the wall's clock: the machine may have been busy
            why = f"took more than {self._seconds:g} s to look for secrets in"
            raise BeyondLimitsError(why, lasting=False) from error
        matches = [_match(each) for each in found if each.visible or not _COMPANION.search(each.rule_id)]
        matches += _elsewhere(text, matches)
        places = [_widened(text, *match) for match in matches if not _is_allowed(text, *match[:2])]
        return _replaced(text, places) if places else Clean(text)


@lru_cache(maxsize=2)
def _scanner(paths: Sequence[str], content: str) -> Scanner:
    """Half a second; ten where the compiled rules are not in the cache yet (Kingfisher keeps it)."""
    del content  # other rules in the same file are another scanner
    from kingfisher_sdk import DetectionPolicy, Rules, Scanner

    try:
        rules = Rules(paths)
    except (ValueError, RuntimeError, OSError) as error:
        raise BadInputError(
            f"The rules for secrets in {paths[-1]} cannot be used: {error}.",
            hint="Their form: https://mongodb.github.io/kingfisher/rules/overview.",
        ) from error
    return Scanner(rules, policy=DetectionPolicy(inline_ignores=False))


def _match(finding: Finding) -> tuple[int, int, str]:
    """Where a secret begins and ends, and what it is."""
    place, what = finding.location, re.split(r"[./]", finding.rule_id, maxsplit=1)[-1]
    return place["start_offset"], place["end_offset"], what


def _elsewhere(text: bytes, matches: list[tuple[int, int, str]]) -> Iterator[tuple[int, int, str]]:
    """Where else the same secrets stand, in a place that does not look like one."""
    known = {text[start:end]: what for start, end, what in matches[:_MOST_SOUGHT]}
    for secret, what in known.items():
        if len(secret) >= _LEAST_SOUGHT and text.count(secret) > 1:
            for again in re.finditer(re.escape(secret), text):
                yield again.start(), again.end(), what


def _widened(text: bytes, start: int, end: int, what: str) -> tuple[int, int, str]:
    """The same, with all of the words that it begins and ends in."""
    before, after = text[max(0, start - _LONGEST_REST) : start], text[end : end + _LONGEST_REST]
    start -= len(before) - len(before.rstrip(_BEFORE))
    end += len(after) - len(after.lstrip(_AFTER))
    return start, end, what


def _is_allowed(text: bytes, start: int, end: int) -> bool:
    first = text.rfind(b"\n", 0, start) + 1
    last = text.find(b"\n", end)
    if _ALLOWED.search(text, first, len(text) if last < 0 else last):
        return True
    before = text[text.rfind(b"\n", 0, max(first - 1, 0)) + 1 : max(first - 1, 0)]
    return bool(_COMMENT_ALONE.match(before) and _ALLOWED.search(before))


def _replaced(text: bytes, places: list[tuple[int, int, str]]) -> Clean:
    apart: list[tuple[int, int, str]] = []
    # Of several rules that found the same, the one that knows what it is gives it its name.
    for start, end, what in sorted(places, key=lambda place: (place[0], place[2] == _ASSIGNED, place)):
        if apart and start < apart[-1][1]:  # another rule found it, too, or a part of it
            apart[-1] = (apart[-1][0], max(end, apart[-1][1]), apart[-1][2])
        else:
            apart.append((start, end, what))
    kept: list[bytes] = []
    found: list[tuple[int, str]] = []
    position, line = 0, 1
    for start, end, what in apart:
        line += text.count(b"\n", position, start)
        found.append((line, what))
        line += text.count(b"\n", start, end)
        parts = _STAYS.split(text[start:end])  # every second one stays
        kept.append(text[position:start])
        kept += [part if number % 2 or not part else REPLACEMENT for number, part in enumerate(parts)]
        position = end
    kept.append(text[position:])
    return Clean(b"".join(kept), found)
