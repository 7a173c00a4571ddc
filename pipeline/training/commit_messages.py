"""Commit messages as queries: what a commit says of its change in words that somebody could search with.

Kept are the subject and the first paragraph of the body that is prose. Cut out are trailers, ticket numbers,
the prefixes of conventional commits, links, e-mail addresses and marks of tools.
"""

from __future__ import annotations

import re

from pipeline.corpus.documentation import shortened
from pipeline.training.commit_references import TICKET, prose_paragraphs, without_tickets

MIN_WORDS = 3
# Words beside those that any commit could have.
MIN_TELLING_WORDS = 2
MIN_LETTER_SHARE = 0.6

_CONVENTIONAL = re.compile(
    r"^(?P<type>feat|feature|fix|bugfix|hotfix|docs?|styles?|refactor|refact|perf|tests?|build|ci|chore"
    r"|revert|deps?|release|wip|typing|types|improvement|enhancement)(?:\([^)]*\))?!?:\s*(?!:)",
    re.IGNORECASE,
)
_HOUSEKEEPING_TYPES = frozenset(
    (
        *("doc", "docs", "style", "styles", "test", "tests", "build", "ci", "chore", "dep", "deps"),
        *("release", "wip", "typing", "types"),
    )
)
_LEADING_MARKS = re.compile(
    r"^(?:\[[^\]]{1,30}\]\s*|:\w+:\s*|(?:bpo|gh|issue|bug|ticket|pr)[- ]?#?\d+\s*[:,-]?\s*"
    rf"|{TICKET}\s*[:,-]?\s*"
    r"|\#\d+\s*[:,-]?\s*|(?:fix(?:es|ed)?|clos(?:es|ed?)|resolv(?:es|ed?)|refs?)\s+"
    r"(?:[\w.-]+/[\w.-]+)?(?:\#|gh-)\d+\s*[:,.-]*\s*|[^\w\s'\"`(<_.-]\ufe0f?\s+)",
    re.IGNORECASE,
)
_URL = re.compile(r"<?\bhttps?://[^\s>)\]]+>?|\b[\w.+-]+@[\w-]+\.[\w.]+\b")
_HASH = re.compile(
    r"\s*\(?(?:(?:introduced |broken |added )?(?:in|by|since|from|of)\s+)?(?:commit\s+)?"
    r"\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{7,40}\b\)?"
)
_SKIP_CI = re.compile(r"\[(?:skip|no)[ -]?ci\]|\[ci[ -]skip\]|\*{3}NO_CI\*{3}", re.IGNORECASE)
_MARKUP = re.compile(
    r"`+|\*\*|(?<!\w)__(?=\w[^_]* )"
    r"|</?(?:p|b|i|em|code|pre|br|ul|ol|li|a|tt|kbd|strong|details|summary)>"
)
_LINK = re.compile(r"!?\[([^\[\]]+)\]\([^)]*\)")
_BULLET = re.compile(r"^\s*(?:[-*+•]|\d+[.)])\s+")
# D12345 is a change in Phabricator.
_REFERENCE = re.compile(
    rf"{_URL.pattern}|\bD\d{{5,}}\b|(?<![\w(\[&])#\d+\b|\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{{7,40}}\b"
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(`])")
_NUMBER = re.compile(r"\d[\d.,]*")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_IDENTIFIER_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")

_MERGE = re.compile(
    r"^merge[ds]?\b(?! ?sort| (?:two|sorted|dict|list|arrays?|headers|params|options|config))", re.IGNORECASE
)
_REVERT = re.compile(
    r"^(?:revert(?:s|ed|ing)?\b|back(?:ed)?[ -]?out\b)|^this reverts commit", re.IGNORECASE | re.MULTILINE
)
_REVERTED = re.compile(r"this reverts commits? ([0-9a-f]{7,40})", re.IGNORECASE)
_BOT = re.compile(
    r"\[bot\]|\b(?:ro)?bot\b|-bot\b|\bbot-|dependabot|renovate|greenkeeper|pre-commit-ci|github-actions|snyk"
    r"|weblate|transifex|\bpyup\b|imgbot|allcontributors|semantic-release|\bbors\b|mergify|codecov"
    r"|travis-?ci|^jenkins\b|copybara|autoroll|buildkite|circleci|^[\w-]*-(?:ci|automation)\b",
    re.IGNORECASE,
)
# A version's number, or what has one: not "Bump the counter when a request fails", nor "Release the lock".
_NO_RELEASE = r"(?! (?:the|an?|its?|their|our|each|every|all|any)\b)"
_RELEASE = re.compile(
    r"^(?:(?:version|bump|tag)\b.*\bv?\d+\.\d+|v?\d+\.\d+[\w.+-]*\s*$"
    rf"|release\b{_NO_RELEASE}.*\bv?\d+\.\d+"
    r"|(?:prepare|preparing|start|begin)\b(?: (?:for|the|a|new|next|with|on|of|to|work\w*|dev\w*|release"
    r"|candidate|version|branch))* v?\d+\.\d+"
    r"|bump(?:s|ed|ing)?\b(?!.*\b(?:when(?:ever)?|if|unless|while|until|each|every|per|instead)\b)"
    r"(?:$|.*\b(?:versions?|dep(?:s|endenc\w+)|requirements?|msrv|sub-?modules?|lock ?files?|copyright|years?"
    r"|toolchain|(?:pre-?)?release|revision|changelog|snapshot|edition|plugins?|sdk)\b"
    rf"|(?: \S*[\d/@]\S*| \S+-\S+)|{_NO_RELEASE}(?: \S+){{1,2}}\s*$)"
    r"|bump\b.* from \S*\d\S* to "
    r"|(?:update|upgrade|pin|unpin)\b.*\b(?:dependenc|requirements|deps|lock ?file)"
    r"|(?:update|upgrade|pin|unpin)\b.*\bfrom \S*\d\S* to "
    r"|(?:\w+: )?(?:update|upgrade|bump|migrate|switch|move)\b.{0,60}\bto (?:the )?(?:latest|newer)"
    rf"|(?:\w+: )?(?:update|upgrade|bump|migrate|switch|move)\b{_NO_RELEASE}.{{0,60}}\bto (?:\S+ )?v?\d"
    r"|(?:\w+: )?(?:update|upgrade|bump|migrate|switch|move)\b.{0,60}\bto (?:\S+ )?v?\d+\.\d"
    rf"|(?:prepare|post|pre)[ -]release|release\b(?:$|{_NO_RELEASE}(?: \S+)?\s*$"
    r"| (?:notes?|candidate|prep\w*|version|scripts?|process|workflow|branch|v?\d)\b.{0,30}$)|changelog)",
    re.IGNORECASE,
)
_FORMATTING = re.compile(
    r"^(?:(?:run|apply|use|appl(?:ied|y)|ran|fix|satisfy|please|appease)?\s*(?:the )?"
    r"(?:black|isort|yapf|autopep8|gofmt|go fmt|rustfmt|cargo fmt|clang-format|prettier"
    r"|formatt(?:er|ing)|format(?:$| (?:the |some |with |code|files?|imports?))"
    r"|whitespaces?|code style|style)\b)"
    r"|\b(?:clippy|lint(?:er|ing|s)?|ruff|mypy|pyright|flake8|pylint|eslint|golint|rubocop|go vet)\b"
    r"|^re-?format|^re-?indent|\bpyupgrade\b|\bcoding style\b|\bsort imports\b",
    re.IGNORECASE,
)
_ASIDE = re.compile(
    r"\b(?:typos?|spelling|misspell\w*|changelog|readme|doc ?strings?|type (?:annotations?|hints?)|typing"
    r"|copyright|tests|test (?:suite|cases?|failures?)|(?:unit|regression|integration) test|doctests?"
    r"|licen[cs]e headers?|coverage)\b"
    r"|^(?:fix|add|improve|update|correct)\w*\b.*\b(?:annotations?|grammar)\b"
    r"|^(?:add|fix|update|improve|more|move|clean ?up|remove|skip|simplify|speed up|refactor)?\s*"
    r"(?:\w+\s+){0,2}(?:unit |regression |missing |integration )?"
    r"(?:tests?|docs?|documentation|comments?)\b[.!]?$",
    re.IGNORECASE,
)
# What is said of the change's shape, or of what is gone, is not to be found in the code it left.
_SHAPE = re.compile(
    r"\brefactor|\bcyclomatic|\boptimi[sz]e codes?\b|\btype[- ]ignore|\bclean(?:ing|ed|s)?[ -]?up\b"
    r"|\btid(?:y|ied)\b|^(?:small |minor )?(?:tweak|polish|nit)s?\b|^dedup"
    r"|^renam|^mov(?:e|ed|ing)\b.*(?:\b\w+\.[a-z]{1,4}\b|\b(?:module|file|package|namespace)s?\b)"
    r"|^(?:re-?)?(?:order|organi[sz]e|structur)|\breview (?:comments?|feedback)\b|\bcode review\b",
    re.IGNORECASE,
)
_REMOVAL = re.compile(
    r"^(?:remov(?:e|ed|es|ing|al)|drop(?:ped|s|ping)?|delet(?:e|ed|es|ing)|don't need|get rid of|eliminat\w+"
    r"|strip out|kill|no longer|unused|clean out|purge)\b",
    re.IGNORECASE,
)
# What commits say whatever they do.
_EMPTY = frozenset(
    """a an and the of to in on for with from by at as is are be it its this that these those some all any
    more add adds added adding fix fixes fixed fixing update updates updated updating change changes
    changed changing remove removes removed removing cleanup clean cleaned cleaning up refactor
    refactors refactored refactoring improve improves improved improvement improvements minor small tiny
    little various misc wip work progress tweak tweaks tweaked polish review feedback comment comments
    address addressed suggestion suggestions apply applied commit initial first final test tests testing
    bug bugs bugfix issue issues problem problems typo typos code file files stuff things thing another
    again better simplify simplified rename renamed move moved use using used make makes made do does
    not no version release bump lint linting format formatting style pep8 merge rebase unnecessary
    reduce redundant previously try attempt temp temporary oops forgot missing correct corrected
    correctly proper properly new old back""".split()  # noqa: SIM905  (a string a word fills the page)
)


def query_of(message: str) -> str:
    """A commit message as a query; "" if nothing of it is left."""
    lines = [line.rstrip() for line in message.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    paragraphs = prose_paragraphs(lines)
    if not paragraphs:
        return ""
    subject = _cleaned_subject(" ".join(paragraphs[0]))
    body = next((prose for prose in map(_prose, paragraphs[1:]) if prose), "")
    if not body or _repeats(subject, body):
        return shortened(subject)
    ended = subject if subject.endswith((".", "!", "?", ":", "…")) else f"{subject}."
    return shortened(f"{ended} {body}") if subject else shortened(body)


def subject_of(message: str) -> str:
    """The first line that has something on it, as it stands."""
    return next((line.strip() for line in message.splitlines() if line.strip()), "")


def left_out(message: str, author: str) -> str | None:
    """Why a commit says nothing of the functions it changed, by its author and words; None if it may.

    Args:
        message: The whole of it.
        author: Name and address of who wrote it.
    """
    subject = subject_of(message)
    plain = _without_marks(subject)
    conventional = _CONVENTIONAL.match(plain)
    kind = conventional["type"].lower() if conventional else ""
    plain = plain[conventional.end() :] if conventional else plain
    objections: tuple[tuple[str, bool], ...] = (
        ("by a bot", _BOT.search(author) is not None),
        ("revert", kind == "revert" or bool(_REVERT.search(plain) or _REVERT.search(message))),
        ("merge", _MERGE.match(plain) is not None),
        ("housekeeping", kind in _HOUSEKEEPING_TYPES or _RELEASE.match(plain) is not None),
        ("formatting only", _FORMATTING.search(plain) is not None),
        ("about tests, documentation or types", _ASIDE.search(_cleaned_subject(subject)) is not None),
        ("about the shape of the code", _SHAPE.search(plain) is not None),
        ("about what was removed", _REMOVAL.match(plain) is not None),
        ("uninformative message", re.match(r"(?:fixup|squash|amend)!", plain) is not None),
    )
    return next((reason for reason, holds in objections if holds), None) or unusable(query_of(message))


def unusable(query: str) -> str | None:
    """Why a cleaned message is not like anything a person would ask for; None if it is."""
    words = _WORD.findall(query)
    # A script without spaces has long words.
    length = max(len(words), sum(len(word) // 3 for word in words if not word.isascii()))
    if length < MIN_WORDS:
        return "message too short"
    telling = {
        part.lower()
        for word in words
        for part in _IDENTIFIER_PART.findall(word)
        if len(part) > 1 and part.lower() not in _EMPTY
    }
    if len(telling) < MIN_TELLING_WORDS and words[0].isascii():
        return "uninformative message"
    letters = sum(character.isalpha() for character in query)
    visible = sum(not character.isspace() for character in query)
    return "uninformative message" if letters < MIN_LETTER_SHARE * visible else None


def reverted_by(message: str) -> list[str]:
    """The commits that a commit says it reverts: the beginnings of their hashes."""
    return [found.lower() for found in _REVERTED.findall(message)]


def _without_marks(subject: str) -> str:
    subject = subject.strip()
    while match := _LEADING_MARKS.match(subject):
        subject = subject[match.end() :]
    return subject


def _cleaned_subject(subject: str) -> str:
    subject = _without_marks(subject)
    if match := _CONVENTIONAL.match(subject):
        subject = _without_marks(subject[match.end() :])
    return _plain(subject)


def _prose(paragraph: list[str]) -> str:
    """A paragraph of the body as one line; "" if it is a list, code, output or a quotation."""
    if any(_BULLET.match(line) or line.startswith(("    ", "\t", ">", "|", "$", "#")) for line in paragraph):
        return ""
    sentences = _SENTENCE_END.split(" ".join(line.strip() for line in paragraph))
    # Without its link or number a sentence may make no sense.
    kept = [sentence for sentence in sentences if not _REFERENCE.search(sentence)]
    text = _plain(" ".join(kept))
    if len(kept) < len(sentences) and text[:1].isascii() and not text[:1].isupper():
        return ""  # the rest of a sentence that was cut at a name
    if 3 * len(_NUMBER.findall(text)) > len(_WORD.findall(text)):
        return ""  # measurements
    return text if len(_WORD.findall(text)) >= 2 * MIN_WORDS and unusable(text) is None else ""


def _plain(text: str) -> str:
    text = _HASH.sub(" ", text)
    text = _LINK.sub(r"\1", _SKIP_CI.sub(" ", text))
    text = _MARKUP.sub("", without_tickets(_URL.sub(" ", text)))
    text = re.sub(r"\(\s*[,;:]?\s*\)|\[\s*\]", " ", text)
    text = " ".join(text.split()).strip(" -–—:;,")
    return re.sub(r"\s+([.,;:!?])(?=\s|$)", r"\1", text)


def _repeats(subject: str, body: str) -> bool:
    return body.casefold().rstrip(".") in subject.casefold() or body.casefold().startswith(
        subject.casefold().rstrip(".…")
    )
