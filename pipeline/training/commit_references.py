"""What a commit message says for trackers and review tools: tickets, trailers and the fields of a review.

A ticket of a tracker (`ABC-12`) and a technical name (`IEEE-754`) look alike, so where it stands decides: at
the start or the end, in brackets, or after a word such as "fixes" it is a ticket; within a sentence it is a
word of it. Names that are known to be technical are words wherever they stand.
"""

from __future__ import annotations

import re

# Encodings, digests, ciphers, standards, protocols, formats, licences, processors, model families.
_TECHNICAL_NAMES = """
    UTF UCS ASCII ANSI ECMA EUC JIS KOI BIG CP LATIN BASE CRC UUID
    SHA MD HMAC BLAKE RIPEMD KECCAK AES DES RSA ECDSA HS RS ES PS PKCS FIPS NIST ARGON CHACHA SALSA OAUTH
    ISO IEC IEEE RFC PEP CVE CWE GHSA ITU DIN EN WGS EPSG COVID OWASP POSIX BCP STD TR
    HTTP HTML CSS JSON XML SQL TLS SSL IP IPV USB PCI SMB FTP SOCKS MQTT AMQP SOAP SNMP
    MP MPEG JPEG PNG GIF WAV PCM ZIP GZIP LZ LZMA PDF ODF EAN UPC ISBN ISSN QR
    GPL LGPL AGPL BSD MPL FORTRAN COBOL ADA ALGOL
    ARM AMD X86 MIPS RISC PPC SPARC CUDA INT UINT FP BF FLOAT SSE AVX ELF PE
    GPT BERT LLAMA CLAUDE GEMINI MISTRAL PHI CLIP YOLO RESNET VGG BM
"""
_NAMES = "|".join(_TECHNICAL_NAMES.split())
# What follows would make it a version or a part number: GPT-4.5, ABC-12-X.
TICKET = rf"(?-i:(?<![\w/-])(?!(?:{_NAMES})-)[A-Z][A-Z0-9]{{1,9}}-\d+\b(?!-\w|\.\d))"
_TICKETS = rf"{TICKET}(?:\s*(?:,|&|/|\band\b)\s*{TICKET})*+"
_NUMBER = r"(?:\b[\w.-]+/[\w.-]+\#\d+\b|(?<![\w&])\#\d+\b|\bgh-\d+\b|\bbpo-\d+\b)"
_DONE = r"fix(?:es|ed)?|clos(?:es|ed?)|resolv(?:es|ed?)|refs?"
_FILLERS = r"(?:\b(?:this|which|and|it|also|should)\s+){0,4}"
_KINDS = r"issue|bug|pr|ticket|pull request|jira"

_BRACKETED = re.compile(
    rf"\s*[(\[](?:[^()\[\]]{{0,60}}\b(?:{_DONE}|see|{_KINDS})\b[^()\[\]]{{0,60}})?(?:{_NUMBER}|{TICKET})"
    rf"(?:\s*,\s*(?:{_NUMBER}|{TICKET}|\d+))*[)\]]",
    re.IGNORECASE,
)
_NUMBERED = re.compile(
    rf"(?:{_FILLERS}\b(?:{_DONE}|see|pr|issue|bug|for|from|per|in|via)\s+)?(?:{_KINDS})?\s*"
    rf"{_NUMBER}(?:\s+(?:pr|issue)\b)?",
    re.IGNORECASE,
)
# "Fix LORA-16 in the client" goes on as a sentence does; what was fixed is then a word of it.
_SAID_OF_TICKETS = re.compile(
    rf"{_FILLERS}\b(?:(?:{_DONE}|see|per|relate[sd] to|part of)[ :]+(?:(?:{_KINDS})[ :#]+)?{_TICKETS}"
    rf"(?=\s*(?:$|[.,;:!?)\]–—]|-\s|and\b|(?-i:[A-Z][a-z])))|(?:{_KINDS})[ :#]+{_TICKETS})",
    re.IGNORECASE,
)
_AT_START = re.compile(rf"^\s*{_TICKETS}\s*(?:[:|,–—]|-\s|$)\s*")
_AT_END = re.compile(rf"{_TICKETS}\s*$")
_LONG_NUMBER = re.compile(r"-\d{3}")
_MARKS = "-–—:;,|/.!?…)"
# After one of these a sentence goes on: "decode it as LORA-16", "the first of ABC-12".
_BINDING = frozenset(
    """a an the and or nor but not no as at by for from in into like of off on onto over than through to
    under until upon use uses using support supports supported via when where with within without is are be
    was were this that these those its their our each every all any some both either new""".split()  # noqa: SIM905
)

# Atomic: a line of many that goes on otherwise must not be tried in every way it can be read.
_REFERENCE = (
    r"(?>(?:<?https?://\S+|(?:[\w.-]+/[\w.-]+)?\#?\d+|gh-\d+|[A-Za-z]{1,10}-?\d+|[0-9a-f]{7,40})"
    r"(?=[\s,.)]|$))"
)
_REFERRING = (
    r"bugs?|issues?|tickets?|tasks?|story|refs?|references?|fix(?:es|ed)?|clos(?:es|ed?)|resolv(?:es|ed?)"
    r"|see(?: also)?|link|pr|pull request(?: resolved)?|jira|related(?: to)?|part of|backport"
)
# No prose, whatever paragraph they stand in.
_NOISE = re.compile(
    r"^(?:\(?cherry[ -]picked from commit\b.*|git-svn-id:.*|squashed (?:from|commit)\b.*|-{3,}|={3,}"
    r"|(?:fix(?:es|ed)?|clos(?:es|ed?)|resolv(?:es|ed?)|refs?|see|related to|part of)[ :]+"
    r"(?:[\w.-]+/[\w.-]+)?(?:#|gh-|https?://)\S*[.)]?"
    rf"|(?:{_REFERRING})\s*:\s*{_REFERENCE}(?:[,\s]+{_REFERENCE})*[.,)]?"
    r"|(?:[a-z]+-)+by\s*:.*|co-authored-by.*|signed-off-by.*|change-id\s*:\s*i[0-9a-f]+)$",
    re.IGNORECASE,
)
# As git has it: a word, a colon, a value; a line that begins with space continues the value.
_TRAILER = re.compile(r"^(?P<token>[A-Za-z][A-Za-z0-9-]*)\s*:\s*(?P<value>.*)$")
_TRAILER_TOKEN = re.compile(
    r"(?:[a-z0-9]+-)+(?:by|with|id|to|on|from|url|link|for|type|notes?|bugs?)"
    r"|bcc?|cc|backport|no-verify|squashed|tags|reviewers?|subscribers|jira",
    re.IGNORECASE,
)
_REFERRING_TOKEN = re.compile(_REFERRING, re.IGNORECASE)
_REFERRING_VALUE = re.compile(r"[\"'(\[<]*(?:https?:|\S*[#\d])|\S*(?:\s+\S+)?$")
# Fields that review tools make of a message; what they tell of is not the change.
_REVIEW_FIELD = re.compile(
    r"^(?:test(?:ing)? (?:plan|done)|testing|review(?:ers?|ed by)|subscribers|tags|maniphest tasks?"
    r"|differential (?:revision|diff)|pull[- ]request(?: resolved)?|auditors|blame revision)\s*:",
    re.IGNORECASE,
)
# The one that does.
_SUMMARY_LABEL = re.compile(r"^\s*(?:summary|description)\s*:\s*", re.IGNORECASE)


def without_tickets(text: str) -> str:
    """A text of one line without the numbers of tickets, and without the words that lead to them."""
    text = _SAID_OF_TICKETS.sub(" ", _NUMBERED.sub(" ", _BRACKETED.sub(" ", text)))
    text = _AT_START.sub("", text)
    if found := _AT_END.search(text):
        before = text[: found.start()].rstrip()
        rest, _, last = before.rpartition(" ")
        if before.endswith(tuple(_MARKS)) or last.lower() not in _BINDING:
            return before
        # "Update the test for ABC-1234": technical names with numbers so long are known ones.
        if last.lower() in ("for", "from", "in", "via") and _LONG_NUMBER.search(text, found.start()):
            return rest
    return text


def prose_paragraphs(lines: list[str]) -> list[list[str]]:
    """The paragraphs of a message, the subject's first, without trailers, fields of reviews and fenced code.

    Args:
        lines: without line breaks and what is blank at their ends.

    Returns:
        Paragraphs with at least one line each.
    """
    paragraphs: list[list[str]] = [[]]
    fenced = False
    for line in lines:
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not line.strip():
            paragraphs.append([])
        elif not fenced and not _NOISE.match(line.strip()):
            paragraphs[-1].append(line)
    paragraphs = [paragraph for paragraph in paragraphs if paragraph]
    if len(paragraphs) > 1 and _are_trailers(paragraphs[-1]):
        paragraphs.pop()
    subject, body = paragraphs[:1], paragraphs[1:]
    return subject + [kept for paragraph in body if (kept := _without_fields(paragraph))]


def _are_trailers(paragraph: list[str]) -> bool:
    """Whether the last paragraph is one that git takes for trailers."""
    lines = [line for line in paragraph if not line[0].isspace()]
    return paragraph[0] in lines and all(map(_is_trailer, lines))


def _is_trailer(line: str) -> bool:
    found = _TRAILER.match(line)
    if found is None:
        return False
    if _REFERRING_TOKEN.fullmatch(found["token"]):
        # "Fix: the wait was too short" is a sentence.
        return _REFERRING_VALUE.match(found["value"]) is not None
    return _TRAILER_TOKEN.fullmatch(found["token"]) is not None


def _without_fields(paragraph: list[str]) -> list[str]:
    kept: list[str] = []
    for line in paragraph:
        if _REVIEW_FIELD.match(line):
            break
        kept.append(_SUMMARY_LABEL.sub("", line))
    return [line for line in kept if line]
