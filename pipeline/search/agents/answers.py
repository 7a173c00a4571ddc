"""What the tools answer: fields for programs, and the same as text for a model to read.

Code in search results is shortened, because an agent pays for every line it is shown; a tool says how to get
the rest.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from pipeline.search.answer import SearchAnswer, SearchResult
from pipeline.search.snippets import SnippetDetail

# Of all results of one search together, in characters: some 4,000 tokens.
CODE_BUDGET = 16_000
MOST_PER_RESULT = 1_500
LEAST_PER_RESULT = 300
LINES_PER_RESULT = 30
# Fewer lines than these are not worth another call.
LINES_NOT_WORTH_A_CALL = 3
PLACES_SHOWN = 10


class FoundSnippet(BaseModel):
    """One result."""

    rank: int = Field(description="From 1, the best.")
    snippet_id: int = Field(description="What get_snippet and report_usefulness take.")
    repository: str = Field(description="The name of the source.")
    path: str = Field(description="From the repository's root.")
    start_line: int
    end_line: int
    symbol: str = Field(description="The qualified name.")
    kind: str = Field(description="function, method, class or module.")
    language: str
    score: float = Field(description="Cosine similarity to the query, from -1 to 1.")
    code: str = Field(description="The first lines; all of them if `complete`.")
    complete: bool = Field(description="If not, get_snippet has the rest.")
    same_elsewhere: int = Field(description="How many more places have exactly this code.")


class SearchOutput(BaseModel):
    """What search_code answers."""

    search_id: str | None = Field(
        description="Names this search for get_snippet and report_usefulness; null if it was not recorded."
    )
    model_version: str = Field(description="The model that ranked.")
    results: list[FoundSnippet]


class OtherPlace(BaseModel):
    """Another place with the same code."""

    snippet_id: int
    repository: str
    path: str
    start_line: int
    end_line: int


class SnippetOutput(BaseModel):
    """What get_snippet answers."""

    snippet_id: int
    repository: str
    path: str
    start_line: int
    end_line: int
    symbol: str
    kind: str
    language: str
    commit: str | None = Field(
        description="The commit, or the release of a distribution, that the code and its lines were read at."
    )
    gone: bool = Field(description="Whether this code is no longer in the repository.")
    code: str = Field(description="All of it, as it stands in the file.")
    places: int = Field(description="How many places have exactly this code, this one included.")
    also_at: list[OtherPlace] = Field(description="The first of the others.")
    opening_recorded: bool = Field(description="Whether it is on record that a search led here.")
    note: str = Field(description="Why it is not, or nothing.")


class JudgementOutput(BaseModel):
    """What report_usefulness answers."""

    judgement: Literal["accept", "reject"]
    recorded: bool = Field(description="False if exactly this was said before.")


def search_output(answer: SearchAnswer) -> SearchOutput:
    """An answer for programs, its code shortened."""
    most = CODE_BUDGET // max(1, len(answer.results))
    most = max(LEAST_PER_RESULT, min(MOST_PER_RESULT, most))
    return SearchOutput(
        search_id=answer.search_id,
        model_version=answer.model_version,
        results=[_found(result, most) for result in answer.results],
    )


def snippet_output(detail: SnippetDetail, *, opening_recorded: bool, note: str) -> SnippetOutput:
    """A snippet for programs, whole."""
    return SnippetOutput(
        snippet_id=detail.snippet_id,
        repository=detail.repository,
        path=detail.path,
        start_line=detail.start_line,
        end_line=detail.end_line,
        symbol=detail.symbol,
        kind=detail.kind,
        language=detail.language,
        commit=detail.origin.commit,
        gone=detail.vanished_at is not None,
        code=detail.code,
        places=detail.places,
        also_at=[
            OtherPlace(
                snippet_id=place.snippet_id,
                repository=place.repository,
                path=place.path,
                start_line=place.start_line,
                end_line=place.end_line,
            )
            for place in detail.also_at[:PLACES_SHOWN]
        ],
        opening_recorded=opening_recorded,
        note=note,
    )


def search_text(output: SearchOutput) -> str:
    """The same for a model to read: numbered lines, and for each result how to get the whole."""
    if not output.results:
        return "Nothing matches. Ask in other words, or with fewer filters."
    parts = [_result_text(result, output.search_id) for result in output.results]
    if output.search_id is None:
        end = "This search could not be recorded, so there is nothing to report on."
    else:
        end = (
            f"search_id: {output.search_id}\n"
            "Say with report_usefulness which result helped, and which looked right and was not."
        )
    return "\n\n".join([*parts, end])


def snippet_text(output: SnippetOutput) -> str:
    """The same for a model to read."""
    at = f" at {output.commit}" if output.commit else ""
    lines = [
        f"{_place(output)}{at}  {output.kind} {output.symbol}  "
        f"({output.language}, snippet {output.snippet_id})"
    ]
    if output.gone:
        lines.append("This code is no longer in the repository.")
    lines.append(numbered(output.code, output.start_line))
    if output.also_at:
        lines.append("The same code stands at:")
        lines += [f"  {_place(place)}" for place in output.also_at]
        more = output.places - len(output.also_at) - (not output.gone)
        lines += [f"  and {more} more places"] if more > 0 else []
    if output.note:
        lines.append(output.note)
    return "\n".join(lines)


def judgement_text(output: JudgementOutput) -> str:
    """The same for a model to read."""
    said = "useful" if output.judgement == "accept" else "not useful"
    return f"Recorded as {said}." if output.recorded else f"That it was {said} was known already."


def shortened(code: str, most: int) -> tuple[str, bool]:
    """The first whole lines of `code`, up to `most` characters and 30 lines; and whether that is all.

    A first line that is longer is cut. A few lines over the limit are shown all the same.
    """
    lines = code.splitlines()
    shown, length = 0, 0
    for line in lines[:LINES_PER_RESULT]:
        length += len(line) + 1
        if length > most + 1:
            break
        shown += 1
    rest = lines[shown:]
    if len(rest) <= LINES_NOT_WORTH_A_CALL and sum(map(len, rest)) <= most // 4:
        return code, True
    return ("\n".join(lines[:shown]) or f"{lines[0][:most]} …"), False


def numbered(code: str, start_line: int) -> str:
    """The code with the numbers that its lines have in their file."""
    return "\n".join(f"{number:>6}  {line}" for number, line in enumerate(code.splitlines(), start_line))


def _found(result: SearchResult, most: int) -> FoundSnippet:
    code, complete = shortened(result.code, most)
    return FoundSnippet(
        rank=result.rank,
        snippet_id=result.snippet_id,
        repository=result.repository,
        path=result.path,
        start_line=result.start_line,
        end_line=result.end_line,
        symbol=result.symbol,
        kind=result.kind,
        language=result.language,
        score=round(result.score, 4),
        code=code,
        complete=complete,
        same_elsewhere=result.places - 1,
    )


def _result_text(result: FoundSnippet, search_id: str | None) -> str:
    others = f", the same code at {result.same_elsewhere} more places" if result.same_elsewhere else ""
    text = (
        f"{result.rank}. {_place(result)}  {result.kind} {result.symbol}  ({result.language}, "
        f"score {result.score:.3f}, snippet {result.snippet_id}{others})\n"
        f"{numbered(result.code, result.start_line)}"
    )
    if not result.complete:
        of = "" if search_id is None else f', search_id="{search_id}"'
        text += f"\n     …  shortened; all of it: get_snippet(snippet_id={result.snippet_id}{of})"
    return text


def _place(at: FoundSnippet | SnippetOutput | OtherPlace) -> str:
    return f"{at.repository} {at.path}:{at.start_line}-{at.end_line}"
