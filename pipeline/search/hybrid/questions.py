"""What the weight is learned from: queries that people judged, and that the model has not been trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.store.connections import Connection

# A model and all it was fine-tuned from. What any of them was trained on is no evidence for the last.
_LINEAGE = """
WITH RECURSIVE line AS (
    SELECT version, base_version, training_set_id FROM model_versions WHERE version = %(version)s
    UNION ALL
    SELECT m.version, m.base_version, m.training_set_id
    FROM line JOIN model_versions m ON m.version = line.base_version
)
"""
# Documentation is no evidence either: it shares its words with its own code, which flatters ranking by words.
# Test stays test: the gate ranks those queries by what is learned here.
_QUESTIONS = (
    _LINEAGE
    + """
SELECT p.group_key, min(p.query), array_agg(DISTINCT p.positive_hash ORDER BY p.positive_hash), max(p.weight)
FROM training_pairs p
WHERE p.training_set_id = (SELECT max(id) FROM training_sets) AND p.origin = 'feedback'
    AND p.split <> 'test'
    AND (p.split <> 'train' OR NOT EXISTS (SELECT FROM line WHERE training_set_id IS NOT NULL))
    AND NOT EXISTS (
        SELECT FROM training_pairs seen JOIN line ON line.training_set_id = seen.training_set_id
        WHERE seen.split = 'train' AND seen.group_key = p.group_key)
GROUP BY p.group_key ORDER BY p.group_key
"""
)


@dataclass(frozen=True)
class Question:
    """A query that people judged.

    Args:
        key: Its group: what all spellings of it share, 32 bytes.
        text: One spelling.
        relevant: The contents that answer it, ascending.
        weight: How far what is believed most of these is believed, over 0 and at most 1; the caps on one
            person, and on one snippet, are in it.
    """

    key: bytes
    text: str
    relevant: tuple[bytes, ...]
    weight: float = 1.0


def judged_questions(connection: Connection, model_version: str) -> list[Question]:
    """The questions of the newest training set that the model has not seen, in the order of their keys.

    None is of the test split. For a model that was fine-tuned these are of the validation split, less what
    any model of its line was trained on under other settings; for a base model of both others.
    """
    rows = connection.execute(_QUESTIONS, {"version": model_version}).fetchall()
    return [Question(key, text, tuple(relevant), weight) for key, text, relevant, weight in rows]


def fingerprint(model_version: str, questions: Sequence[Question], rules: str) -> str:
    """SHA-256 over all that decides what is learned, but for the code searched."""
    digest = hashlib.sha256(f"{rules}\0{model_version}".encode())
    for question in questions:
        digest.update(question.key)
        digest.update(repr(question.weight).encode())
        digest.update(len(question.relevant).to_bytes(8, "big"))
        for content_hash in question.relevant:
            digest.update(content_hash)
    return digest.hexdigest()
