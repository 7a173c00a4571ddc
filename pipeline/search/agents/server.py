"""The MCP server: its tools, what they say of themselves, and how they fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from typing import Annotated, Any, Literal

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceError, ToolError, UnexpectedToolError
from mcp_types import CallToolResult, InputRequiredResult, TextContent, ToolAnnotations
from pydantic import BaseModel, Field, ValidationError

from pipeline.errors import HoneloopError
from pipeline.search.agents.answers import (
    JudgementOutput,
    SearchOutput,
    SnippetOutput,
    judgement_text,
    search_output,
    search_text,
    snippet_output,
    snippet_text,
)
from pipeline.search.agents.backend import AgentBackend
from pipeline.search.agents.sessions import ShownSnippets
from pipeline.search.globs import MAX_GLOB_CHARACTERS
from pipeline.search.request import MAX_QUERY_CHARACTERS, SearchRequest
from pipeline.search.snippets import MAX_ID

# More results than this fill a context window and help nobody.
MAX_RESULTS = 50
MAX_USER_CHARACTERS = 100

INSTRUCTIONS = (
    "Honeloop searches your team's own code by meaning, across all indexed repositories. Use search_code to "
    "find where something is done, or whether it exists already, before you write it. Open a promising "
    "result with get_snippet, and tell with report_usefulness whether it helped: the search learns from that."
)

Lifespan = Callable[[MCPServer[Any]], AbstractAsyncContextManager[Any]]

Query = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_QUERY_CHARACTERS,
        description="What the code should do, in plain words, such as 'retry a request with growing pauses'; "
        "or code that looks like what you want.",
    ),
]
Results = Annotated[int, Field(ge=1, le=MAX_RESULTS, description="How many results.")]
Language = Annotated[
    str | None, Field(max_length=50, description="Only code in this language, such as python or typescript.")
]
Source = Annotated[
    str | None,
    Field(
        max_length=100,
        description="Only code from this source; the resource honeloop://sources lists the names.",
    ),
]
KindOfSnippet = Annotated[
    Literal["function", "method", "class", "module"] | None, Field(description="Only snippets of this kind.")
]
PathGlob = Annotated[
    str | None,
    Field(
        max_length=MAX_GLOB_CHARACTERS,
        description="Only files whose path matches this glob, such as src/**/*.py or *_test.go.",
    ),
]
SnippetId = Annotated[int, Field(ge=1, le=MAX_ID, description="The snippet_id of a search result.")]
SearchId = Annotated[str, Field(min_length=1, max_length=64, description="The search_id of that search.")]
OptionalSearchId = Annotated[
    str | None, Field(max_length=64, description="The search_id of the search that showed it.")
]
Useful = Annotated[
    bool, Field(description="true: it was what you looked for. false: it looked right, and was not.")
]

# That a search or an opening is remembered changes nothing for whoever asks.
READS = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
JUDGES = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)


class AgentServer(MCPServer[Any]):
    """An MCP server whose tools fail with one clear sentence and what to do about it."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """As the library's.

        Raises:
            ToolError: arguments that the tool does not take, or a HoneloopError; with its sentence and hint.
        """
        await self._require_known(name, arguments)
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if isinstance(error.__cause__, HoneloopError):
                raise ToolError(str(error.__cause__)) from error.__cause__
            if isinstance(error.__cause__, ValidationError):
                raise ToolError(_invalid(name, error.__cause__)) from error.__cause__
            if isinstance(error, UnexpectedToolError):
                raise UnexpectedToolError(
                    f"{name} failed unexpectedly. What happened is in the server's log, on its standard "
                    "error; that is worth a bug report."
                ) from error.__cause__
            raise

    async def _require_known(self, name: str, arguments: dict[str, Any]) -> None:
        # The library drops what a tool does not know, and a filter with a typing error would be no filter.
        for tool in await self.list_tools():
            known = tool.input_schema["properties"]
            unknown = [repr(argument) for argument in arguments if argument not in known]
            if tool.name == name and unknown:
                raise ToolError(f"{name} does not take {', '.join(unknown)}. It takes: {', '.join(known)}.")


def build_server(
    backend: AgentBackend, *, user: str | None = None, lifespan: Lifespan | None = None
) -> AgentServer:
    """The server with its tools and its resource; nothing is opened or loaded before one is used.

    Args:
        backend: What the tools work with.
        user: Whose searches these are, for the record; None: `agent:` and the name that the client gives.
        lifespan: What surrounds its serving.
    """
    server = AgentServer(
        "honeloop",
        title="Honeloop code search",
        instructions=INSTRUCTIONS,
        version=version("honeloop"),
        log_level="WARNING",
        lifespan=lifespan,
    )
    shown = ShownSnippets()

    @server.tool(title="Search code", annotations=READS)
    def search_code(
        *,
        query: Query,
        context: Context[Any, Any],
        k: Results = 10,
        language: Language = None,
        source: Source = None,
        kind: KindOfSnippet = None,
        path: PathGlob = None,
    ) -> Annotated[CallToolResult, SearchOutput]:
        """Searches the indexed repositories by meaning and returns functions, methods, classes and modules.

        Better than a text search when you know what code does but not what it is called. Each result has its
        repository, path, lines, symbol and the beginning of its code, best first; get_snippet has all of it.
        Start without filters, and narrow down by language, source, kind or path if need be.
        """
        answer = backend.search(
            SearchRequest(
                query,
                k,
                # A model leaves an optional argument empty as readily as it leaves it out.
                (language,) if language else (),
                (source,) if source else (),
                (kind,) if kind else (),
                path or None,
                user=_user(context, user),
                client="mcp",
            )
        )
        shown.add(_session(context), answer.search_id, [each.snippet_id for each in answer.results])
        output = search_output(answer)
        return _result(output, search_text(output))

    @server.tool(title="Open a snippet", annotations=READS)
    def get_snippet(
        snippet_id: SnippetId, context: Context[Any, Any], search_id: OptionalSearchId = None
    ) -> Annotated[CallToolResult, SnippetOutput]:
        """Returns the whole code of a search result, with its lines, its commit and every place it stands at.

        Give the search_id as well: that you opened this result of that search teaches the ranking.
        """
        detail = backend.snippet(snippet_id)
        named = search_id or shown.last_search(_session(context), snippet_id)
        note = "Not counted as opened: no search of this session showed it." if named is None else ""
        if named is not None:
            try:
                backend.judge(named, snippet_id, "click", _user(context, user))
            except HoneloopError as error:  # the code is there all the same
                note = f"Not counted as opened: {error}"
        output = snippet_output(detail, opening_recorded=not note, note=note)
        return _result(output, snippet_text(output))

    @server.tool(title="Say whether a result helped", annotations=JUDGES)
    def report_usefulness(
        search_id: SearchId, snippet_id: SnippetId, useful: Useful, context: Context[Any, Any]
    ) -> Annotated[CallToolResult, JudgementOutput]:
        """Records whether a search result was what you needed. The model is trained on these reports.

        Report the result that you used as useful, and one that you opened in vain as not useful. Only results
        that the search showed can be judged; the last word on each counts.
        """
        judgement: Literal["accept", "reject"] = "accept" if useful else "reject"
        added = backend.judge(search_id, snippet_id, judgement, _user(context, user))
        output = JudgementOutput(judgement=judgement, recorded=added)
        return _result(output, judgement_text(output))

    @server.resource(
        "honeloop://sources",
        title="Indexed sources",
        description="The sources that are searched: name, kind, commit or release, number of snippets.",
        mime_type="application/json",
    )
    def sources() -> str:
        try:
            found = backend.sources()
        except HoneloopError as error:
            raise ResourceError(str(error)) from error
        return json.dumps(
            [
                {
                    "name": each.name,
                    "kind": each.kind,
                    "commit": each.commit_id,
                    "snippets": each.report.get("snippets_live", 0),
                }
                for each in found
            ],
            ensure_ascii=False,
        )

    # The decorators keep them; said here so that a reader does not wonder.
    del search_code, get_snippet, report_usefulness, sources
    return server


def _result(output: BaseModel, text: str) -> CallToolResult:
    return CallToolResult(
        content=[TextContent(type="text", text=text)], structured_content=output.model_dump(mode="json")
    )


def _session(context: Context[Any, Any]) -> str | None:
    """What tells one client's calls from another's; None if nothing does."""
    headers = context.headers
    if headers is None:  # stdio: the process is one client's
        return ""
    return headers.get("mcp-session-id") or None


def _user(context: Context[Any, Any], user: str | None) -> str:
    if user is not None:
        return user
    client = context.session.client_params
    name = "" if client is None else client.client_info.name
    name = "".join(character for character in name if character.isprintable()).strip()
    return f"agent:{name[:MAX_USER_CHARACTERS]}" if name else "agent"


def _invalid(name: str, error: ValidationError) -> str:
    problems = [f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors()]
    return f"{name} cannot take these arguments: {'; '.join(problems)}."
