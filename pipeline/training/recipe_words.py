"""The words that training recipes are named by, and what each is for. Imports next to nothing."""

from __future__ import annotations

from pipeline.errors import BadInputError

LOSSES = ("multiple-negatives", "triplet")

# In the order in which names are written.
WORDS: dict[str, str] = {
    "multiple-negatives": "every query against all snippets of its batch, and hard negatives",
    "triplet": "every query against its own negatives only, by a margin; HONELOOP_TRIPLET_MARGIN",
    "cached": "large batches in little memory, for a second forward pass; HONELOOP_CACHED_BATCH_SIZE",
    "guided": "a frozen model takes likely answers out of the negatives; HONELOOP_GUIDE",
    "matryoshka": "vectors that can be cut to a half or a quarter; HONELOOP_MATRYOSHKA_HALVINGS",
    "two-stage": "documentation and commits first, then feedback; HONELOOP_FIRST_STAGE_EPOCHS and others",
    "merged": "from all pairs, and from feedback alone in large batches, each from the base, then averaged; "
    "the default; HONELOOP_FEEDBACK_EPOCHS and others",
    "averaged": "the best mix of base and trained weights on validation; HONELOOP_AVERAGING_SHARES",
}


def words_of(name: str) -> tuple[str, ...]:
    """The words of a recipe's name in the order of `WORDS`, so that one recipe has one name.

    The loss is left out if it is the default one and something else is named.

    Raises:
        BadInputError: the name has a word that is unknown or stands there twice, two losses, or a guide
            for a loss that takes no negatives from the batch.
    """
    words = [word.strip() for word in name.split("+")]
    problem = _problem(words)
    if problem:
        raise BadInputError(f"{name!r} is not a recipe: {problem}.", hint=f"{known_words()} Join them by +.")
    ordered = tuple(word for word in WORDS if word in words)
    return tuple(word for word in ordered if word != LOSSES[0]) or ordered


def names_of(listed: str) -> tuple[str, ...]:
    """The names of the recipes in a list with commas between them, each once.

    Raises:
        BadInputError: one of them is no recipe, or there are fewer than two.
    """
    names = list(dict.fromkeys("+".join(words_of(name)) for name in listed.split(",")))
    if len(names) < 2:
        raise BadInputError(
            f"There is nothing to compare {listed} with.",
            hint=f"Name two recipes or more, such as {LOSSES[0]},cached+guided. {known_words()}",
        )
    return tuple(names)


def known_words() -> str:
    """Every word with what it is for, as a sentence."""
    return "Known: " + "; ".join(f"{word} ({purpose})" for word, purpose in WORDS.items()) + "."


def _problem(words: list[str]) -> str:
    """What is wrong with the words of a name; empty if nothing is."""
    unknown = [word for word in words if word not in WORDS]
    if unknown:
        return f"{unknown[0]!r} is not known"
    twice = [word for word in WORDS if words.count(word) > 1]
    if twice:
        return f"{twice[0]!r} stands there twice"
    if set(LOSSES) <= set(words):
        return f"{' and '.join(LOSSES)} are two losses"
    if {"two-stage", "merged"} <= set(words):
        return "two-stage and merged both say what is learned when"
    if {"triplet", "guided"} <= set(words):
        return "triplet takes no negatives from the batch, so there are none to guide"
    return ""
