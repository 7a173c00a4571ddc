"""What the service takes and gives. The descriptions and examples here are its OpenAPI documentation."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pipeline.corpus.definitions import Kind
from pipeline.errors import BadInputError
from pipeline.feedback.confidence import Judgement
from pipeline.feedback.events import MAX_DWELL_MS
from pipeline.search.globs import MAX_GLOB_CHARACTERS, glob_to_regex
from pipeline.search.request import MAX_QUERY_CHARACTERS, SearchRequest
from pipeline.search.snippets import MAX_ID

MAX_RESULTS = 100


def _text(value: str) -> str:
    if "\x00" in value:
        raise ValueError("it holds a NUL character, which is no text")
    return value


def _something(value: str) -> str:
    if not value.strip():
        raise ValueError("it is empty")
    return value


def _glob(value: str) -> str:
    try:
        glob_to_regex(value)
    except BadInputError as error:
        raise ValueError(str(error)) from error
    return value


# The lengths stand first, so that what is said of them is said of characters.
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_text), AfterValidator(_something)]
Names = Annotated[list[Name], Field(max_length=50)]
User = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        description="Who it is, by any name that stays the same; one person's weight in training is capped.",
        examples=["ada"],
    ),
    AfterValidator(_text),
]


class _Taken(BaseModel):
    """What is sent: a field nobody knows is a mistake that should be seen."""

    model_config = ConfigDict(extra="forbid")


class SearchIn(_Taken):
    """One search."""

    query: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_QUERY_CHARACTERS,
            description="What the code should do, in your own words; or code itself.",
            examples=["shortest path between two nodes"],
        ),
        AfterValidator(_text),
        AfterValidator(_something),
    ]
    k: Annotated[int, Field(ge=1, le=MAX_RESULTS, description="How many results.", examples=[10])] = 10
    language: Annotated[
        Name | Names | None,
        Field(description="Only snippets in this language, or in one of these.", examples=["python"]),
    ] = None
    source: Annotated[
        Name | Names | None,
        Field(description="Only snippets of the source of this name, or of these.", examples=[["networkx"]]),
    ] = None
    kind: Annotated[
        Kind | Annotated[list[Kind], Field(max_length=10)] | None,
        Field(description="Only snippets of this kind, or of these.", examples=[["function", "method"]]),
    ] = None
    path: (
        Annotated[
            str,
            Field(
                min_length=1,
                max_length=MAX_GLOB_CHARACTERS,
                description="Only files whose path matches this glob. `*` stays within a folder, `**` "
                "crosses them; without a slash it is the file's name.",
                examples=["src/**/*.py"],
            ),
            AfterValidator(_text),
            AfterValidator(_glob),
        ]
        | None
    ) = None
    user: User | None = None

    def request(self) -> SearchRequest:
        """The same as the engine takes it."""
        return SearchRequest(
            self.query,
            self.k,
            _several(self.language),
            _several(self.source),
            _several(self.kind),
            self.path,
            self.user,
            client="api",
        )


def _several(value: str | list[str] | list[Kind] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


class PlaceOut(BaseModel):
    """Where else the same text stands."""

    repository: Annotated[str, Field(examples=["networkx"])]
    path: Annotated[str, Field(examples=["networkx/algorithms/shortest_paths/generic.py"])]
    start_line: Annotated[int, Field(examples=[42])]


class _Ranked(BaseModel):
    rank: Annotated[int, Field(description="From 1.", examples=[1])]
    score: Annotated[
        float, Field(description="Cosine similarity to the query, from -1 to 1.", examples=[0.63])
    ]


class _Snippet(BaseModel):
    snippet_id: Annotated[int, Field(description="What feedback refers to.", examples=[1742])]
    repository: Annotated[str, Field(description="The source's name.", examples=["networkx"])]
    path: Annotated[
        str,
        Field(
            description="From the source's root.", examples=["networkx/algorithms/shortest_paths/generic.py"]
        ),
    ]
    symbol: Annotated[str, Field(description="The qualified name.", examples=["shortest_path"])]
    kind: Kind
    language: Annotated[str, Field(examples=["python"])]
    start_line: Annotated[int, Field(description="From 1.", examples=[42])]
    end_line: Annotated[int, Field(description="The last line, included.", examples=[77])]
    code: Annotated[str, Field(description="The lines as they stand in the file.")]
    url: Annotated[
        str,
        Field(
            description="The lines at the hosting service, as they were at the commit that was read; for "
            "code that comes from none, this service's own page, relative to its address.",
            examples=["https://github.com/networkx/networkx/blob/0123abcd/networkx/convert.py#L42-L77"],
        ),
    ]
    places: Annotated[int, Field(description="How many snippets there are with this text.", examples=[1])]


class ResultOut(_Snippet, _Ranked):
    """One snippet shown."""

    also_at: Annotated[
        list[PlaceOut], Field(description="Other snippets with the same text; at most 50 of them.")
    ]


class SearchOut(BaseModel):
    """The answer: all of it from one model version and one index version."""

    search_id: Annotated[
        str | None,
        Field(
            description="What feedback refers to; null when the search could not be recorded.",
            examples=["6b3f0c1e-8f57-4f0e-9d70-1f6f8b1f7a55"],
        ),
    ]
    query: str
    model_version: Annotated[str, Field(description="SHA-256 of weights, tokenizer and specification.")]
    index_version_id: Annotated[int, Field(examples=[3])]
    latency_ms: Annotated[float, Field(description="From the request to the answer.", examples=[18.4])]
    results: Annotated[list[ResultOut], Field(description="Best first; each text once.")]


class SnippetPlaceOut(PlaceOut):
    """Another snippet with the same text."""

    snippet_id: int
    symbol: str
    end_line: int
    url: str


class SnippetOut(_Snippet):
    """One snippet, live or vanished."""

    signature: Annotated[str, Field(examples=["def shortest_path(G, source=None, target=None):"])]
    commit: Annotated[
        str | None, Field(description="The commit or release its lines were read at; null for a directory.")
    ]
    vanished_at: Annotated[
        datetime | None, Field(description="When it was found gone from its file; null while it is there.")
    ]
    also_at: Annotated[list[SnippetPlaceOut], Field(description="At most 1,000 of them.")]


class FeedbackIn(_Taken):
    """What somebody did with one result of a search."""

    search_id: Annotated[
        UUID,
        Field(
            description="The search, as its answer named it.",
            examples=["6b3f0c1e-8f57-4f0e-9d70-1f6f8b1f7a55"],
        ),
    ]
    snippet_id: Annotated[
        int, Field(ge=1, le=MAX_ID, description="One of the snippets that it showed.", examples=[1742])
    ]
    judgement: Annotated[
        Judgement,
        Field(
            description="click: opened it; copy: copied its code; accept: it helps; reject: it does not.",
            examples=["accept"],
        ),
    ]
    dwell_ms: Annotated[
        int | None,
        Field(ge=0, le=MAX_DWELL_MS, description="How long it was looked at, in ms.", examples=[12500]),
    ] = None
    user: User | None = None


class FeedbackOut(BaseModel):
    """Whether it was new."""

    added: Annotated[bool, Field(description="False: the same was said before, and nothing was added.")]


class HealthOut(BaseModel):
    """Whether searches can be answered now."""

    status: Annotated[Literal["ok", "unavailable"], Field(description="ok exactly when the code is 200.")]
    reason: Annotated[
        str | None, Field(description="Why not, or which flip cannot be followed, in a sentence.")
    ] = None
    database: Annotated[Literal["ok", "away"], Field(description="Whether the database answers.")]
    model_version: Annotated[str | None, Field(description="What answers.")] = None
    index_version_id: int | None = None
    queue_depth: Annotated[
        int | None, Field(description="Searches that wait to be written; null: not known.", examples=[0])
    ]


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    field: Annotated[str, Field(examples=["k"])]
    problem: Annotated[str, Field(examples=["Input should be less than or equal to 100"])]


class ErrorOut(BaseModel):
    """Every error has this shape."""

    error: Annotated[str, Field(description="What is wrong, in a sentence.", examples=["k is not usable."])]
    hint: Annotated[str, Field(description="What to do about it; may be empty.")] = ""
    fields: Annotated[
        list[FieldProblem], Field(description="Which fields are wrong and why, where that is the trouble.")
    ] = []
