"""The tools, asked by the library's own client in this process: real index, real model, real rows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
from mcp import Client
from mcp_types import CallToolResult, Implementation, TextContent, TextResourceContents

from assets_tests.index.click_corpus import Function, vanish
from assets_tests.search.agents.conftest import feedback_of
from pipeline.config import Settings
from pipeline.search.agents.answers import CODE_BUDGET, numbered, shortened
from pipeline.search.agents.backend import AgentBackend
from pipeline.search.agents.server import build_server
from pipeline.search.agents.sessions import SEARCHES_KEPT, ShownSnippets
from pipeline.store.connections import Database

Result = TypeVar("Result")
QUERY = "open a file for reading"


def asked(
    backend: AgentBackend,
    work: Callable[[Client], Awaitable[Result]],
    *,
    user: str | None = None,
    name: str = "test-agent",
    mode: str = "auto",
) -> Result:
    """What `work` gets from a server, as a client of that name."""

    async def session() -> Result:
        info = Implementation(name=name, version="1")
        async with Client(build_server(backend, user=user), client_info=info, mode=mode) as client:
            return await work(client)

    return asyncio.run(session())


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """The structured answer of a call that succeeds."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, text_of(result)
    assert result.structured_content is not None
    return result.structured_content


async def refused(client: Client, tool: str, **arguments: Any) -> str:
    """What a call that fails says."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    assert result.structured_content is None
    assert "Traceback" not in text_of(result)
    return text_of(result)


def text_of(result: CallToolResult) -> str:
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


def test_the_tools_describe_themselves(backend: AgentBackend) -> None:
    async def work(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"search_code", "get_snippet", "report_usefulness"}
        for tool in tools.values():
            assert tool.description is not None
            assert len(tool.description) > 100
            assert tool.output_schema is not None
            for argument in tool.input_schema["properties"].values():
                assert argument["description"]
            assert tool.annotations is not None
            assert tool.annotations.destructive_hint is False
            assert tool.annotations.read_only_hint is (tool.name != "report_usefulness")
        assert tools["search_code"].input_schema["required"] == ["query"]
        assert tools["search_code"].input_schema["properties"]["k"]["maximum"] == 50
        assert client.instructions is not None
        assert "search_code" in client.instructions

    asked(backend, work)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_search_open_report(backend: AgentBackend, indexed: Database, mode: str) -> None:
    async def work(client: Client) -> tuple[dict[str, Any], str]:
        result = await client.call_tool("search_code", {"query": QUERY, "k": 3})
        assert result.structured_content is not None
        found = result.structured_content
        for shown in found["results"]:
            assert f"snippet {shown['snippet_id']}" in text_of(result)
            assert f"{shown['path']}:{shown['start_line']}-{shown['end_line']}" in text_of(result)
        assert found["search_id"] in text_of(result)
        first, second, third = (each["snippet_id"] for each in found["results"])
        opened = await call(client, "get_snippet", snippet_id=first)
        assert opened["opening_recorded"]
        await call(client, "get_snippet", snippet_id=first)  # once more: no second click
        await call(client, "get_snippet", snippet_id=second, search_id=found["search_id"])
        told = await call(
            client, "report_usefulness", search_id=found["search_id"], snippet_id=first, useful=True
        )
        assert told == {"judgement": "accept", "recorded": True}
        again = await call(
            client, "report_usefulness", search_id=found["search_id"], snippet_id=first, useful=True
        )
        assert again == {"judgement": "accept", "recorded": False}
        await call(client, "report_usefulness", search_id=found["search_id"], snippet_id=third, useful=False)
        return found, opened["code"]

    found, code = asked(backend, work, mode=mode)
    first, second, third = (each["snippet_id"] for each in found["results"])
    who = "agent:test-agent"
    search = found["search_id"]
    assert feedback_of(indexed) == [
        (search, first, "click", who),
        (search, second, "click", who),
        (search, first, "accept", who),
        (search, third, "reject", who),
    ]
    with indexed.connect() as connection:
        row = connection.execute(
            "SELECT client, user_name, query FROM searches WHERE id = %s", [search]
        ).fetchone()
        stored = connection.execute("SELECT code FROM snippets WHERE id = %s", [first]).fetchone()
    assert row == ("mcp", who, QUERY)
    assert stored == (code,)


def test_the_results_are_those_of_the_engine(backend: AgentBackend, indexed: Database) -> None:
    async def work(client: Client) -> list[dict[str, Any]]:
        found = await call(
            client, "search_code", query=QUERY, kind="function", path="utils.py", language="Python"
        )
        return found["results"]

    results = asked(backend, work)
    backend.close()  # writes what waits on disk
    assert results
    assert [each["rank"] for each in results] == list(range(1, len(results) + 1))
    assert all(each["path"].endswith("utils.py") for each in results)
    with indexed.connect() as connection:
        shown = connection.execute(
            "SELECT snippet_id, round(score::numeric, 4) FROM impressions ORDER BY rank"
        )
        assert [(number, float(score)) for number, score in shown] == [
            (each["snippet_id"], each["score"]) for each in results
        ]


def test_what_was_not_shown_is_never_feedback(backend: AgentBackend, indexed: Database) -> None:
    async def work(client: Client) -> None:
        found = await call(client, "search_code", query=QUERY, k=2)
        shown = {each["snippet_id"] for each in found["results"]}
        other = next(number for number in range(1, 10) if number not in shown)
        unprompted = await call(client, "get_snippet", snippet_id=other)
        assert unprompted["code"]
        assert not unprompted["opening_recorded"]
        assert "no search of this session" in unprompted["note"]
        claimed = await call(client, "get_snippet", snippet_id=other, search_id=found["search_id"])
        assert not claimed["opening_recorded"]
        assert "was not shown in search" in claimed["note"]
        said = await refused(
            client, "report_usefulness", search_id=found["search_id"], snippet_id=other, useful=True
        )
        assert "was not shown in search" in said
        for unknown in ("3598ffe8-483a-446f-8d8d-1cf1f8339082", "nonsense", "a\x00b"):
            said = await refused(
                client, "report_usefulness", search_id=unknown, snippet_id=min(shown), useful=True
            )
            assert "no search" in said
            opened = await call(client, "get_snippet", snippet_id=other, search_id=unknown)
            assert opened["code"]
            assert "no search" in opened["note"]

    asked(backend, work)
    assert feedback_of(indexed) == []


def test_bad_arguments_are_refused_in_a_sentence(backend: AgentBackend, indexed: Database) -> None:
    async def work(client: Client) -> None:
        for arguments, said in (
            ({}, "query: Field required"),
            ({"query": ""}, "query: String should have at least 1 character"),
            ({"query": "  "}, "The query is empty"),
            ({"query": "x" * 10_001}, "at most 10000 characters"),
            ({"query": "a\x00b"}, "characters that are no text"),
            ({"query": "x", "k": 0}, "k: "),
            ({"query": "x", "k": 51}, "k: Input should be less than or equal to 50"),
            ({"query": "x", "k": "many"}, "k: "),
            ({"query": "x", "kind": "macro"}, "kind: Input should be 'function'"),
            ({"query": "x", "source": "nowhere"}, "no source 'nowhere'. Known: click."),
            ({"query": "x", "language": "cobol"}, "There are: python."),
            ({"query": "x", "path": "src/[a"}, "set that is not one"),
            ({"query": "x", "languge": "python"}, "does not take 'languge'. It takes: query, k, language"),
        ):
            assert said in await refused(client, "search_code", **arguments), arguments
        assert "no snippet 999999" in await refused(client, "get_snippet", snippet_id=999_999)
        assert "snippet_id: " in await refused(client, "get_snippet", snippet_id=0)
        assert "useful: Field required" in await refused(
            client, "report_usefulness", search_id="x", snippet_id=1
        )
        # What a model leaves empty is left out.
        assert (await call(client, "search_code", query=QUERY, language="", source="", path=""))["results"]

    asked(backend, work)
    backend.close()  # writes what waits on disk
    with indexed.connect() as connection:
        assert connection.execute("SELECT count(*) FROM searches").fetchone() == (1,)


def test_an_unexpected_failure_says_nothing_of_its_cause(
    backend: AgentBackend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the inner works")

    monkeypatch.setattr(backend, "snippet", broken)

    async def work(client: Client) -> None:
        said = await refused(client, "get_snippet", snippet_id=1)
        assert "failed unexpectedly" in said
        assert "inner works" not in said

    asked(backend, work)
    assert "the inner works" in caplog.text


def test_a_database_that_is_away_is_said_and_comes_back(indexed: Database, settings: Settings) -> None:
    away = Database("postgresql://127.0.0.1:1/nothing?connect_timeout=2")
    backend = AgentBackend(settings, away)

    async def work(client: Client) -> None:
        assert "database cannot be reached" in await refused(client, "get_snippet", snippet_id=1)
        said = await refused(
            client,
            "report_usefulness",
            search_id="3598ffe8-483a-446f-8d8d-1cf1f8339082",
            snippet_id=1,
            useful=True,
        )
        assert "database cannot be reached" in said
        backend._database = indexed
        assert (await call(client, "get_snippet", snippet_id=1))["code"]

    try:
        asked(backend, work)
    finally:
        backend.close()


def test_who_searches(backend: AgentBackend, indexed: Database) -> None:
    async def work(client: Client) -> None:
        await call(client, "search_code", query=QUERY, k=1)

    asked(backend, work, user="ada")
    asked(backend, work, name="\x07 claude\x00-code\u200b")
    asked(backend, work, name="")
    backend.close()  # writes what waits on disk
    with indexed.connect() as connection:
        users = connection.execute("SELECT user_name FROM searches ORDER BY at").fetchall()
    assert users == [("ada",), ("agent:claude-code",), ("agent",)]


def test_code_that_is_gone_is_said_to_be(
    backend: AgentBackend, indexed: Database, functions: tuple[Function, ...]
) -> None:
    vanish(indexed, functions[:1])

    async def work(client: Client) -> dict[str, Any]:
        result = await client.call_tool("get_snippet", {"snippet_id": 1})
        assert "no longer in the repository" in text_of(result)
        assert result.structured_content is not None
        return result.structured_content

    gone = asked(backend, work)
    assert gone["gone"] is True
    assert gone["places"] == 0
    assert gone["code"] == functions[0].code


def test_sources_are_a_resource(backend: AgentBackend) -> None:
    async def work(client: Client) -> None:
        (content,) = (await client.read_resource("honeloop://sources")).contents
        assert isinstance(content, TextResourceContents)
        (source,) = json.loads(content.text)
        assert source["name"] == "click"
        assert source["kind"] == "distribution"

    asked(backend, work)


def test_code_is_shortened_to_the_budget_and_by_whole_lines(backend: AgentBackend) -> None:
    code = "\n".join(f"line {number} of a long function" for number in range(100))
    shown, complete = shortened(code, 500)
    assert not complete
    assert len(shown) <= 500
    assert code.startswith(f"{shown}\n")
    assert shortened(code, 10**6) == ("\n".join(code.splitlines()[:30]), False)
    assert shortened("a\nb\nc", 500) == ("a\nb\nc", True)
    nearly = "\n".join(["x" * 99] * 5 + ["y"] * 3)
    assert shortened(nearly, 500) == (nearly, True)  # three short lines more are shown
    assert shortened("z" * 5000, 300) == ("z" * 300 + " …", False)
    assert numbered("a\n\nb", 9).splitlines() == ["     9  a", "    10  ", "    11  b"]

    async def work(client: Client) -> None:
        result = await client.call_tool("search_code", {"query": QUERY, "k": 50})
        assert result.structured_content is not None
        results = result.structured_content["results"]
        assert len(results) == 50
        assert sum(len(each["code"]) for each in results) <= 1.25 * CODE_BUDGET
        short = [each for each in results if not each["complete"]]
        assert short
        for each in short:
            whole = await call(client, "get_snippet", snippet_id=each["snippet_id"])
            assert len(whole["code"]) > len(each["code"])
            assert f"get_snippet(snippet_id={each['snippet_id']}, search_id=" in text_of(result)

    asked(backend, work)


def test_a_session_remembers_its_own_searches_only() -> None:
    shown = ShownSnippets()
    shown.add("a", "first", [1, 2])
    shown.add("a", "second", [2, 3])
    shown.add("b", "third", [4])
    shown.add(None, "fourth", [5])
    shown.add("a", None, [6])
    assert shown.last_search("a", 1) == "first"
    assert shown.last_search("a", 2) == "second"
    assert [shown.last_search("a", number) for number in (4, 5, 6)] == [None, None, None]
    assert shown.last_search("b", 4) == "third"
    assert shown.last_search(None, 5) is None
    for number in range(SEARCHES_KEPT):
        shown.add("a", f"later {number}", [100])
    assert shown.last_search("a", 1) is None
    assert shown.last_search("a", 100) == f"later {SEARCHES_KEPT - 1}"
