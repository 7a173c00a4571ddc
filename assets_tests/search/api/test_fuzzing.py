"""The whole API fuzzed by Schemathesis over a real socket and a real index: nothing sent may give a 5xx."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from assets_tests.search.api.conftest import World
from assets_tests.search.api.running import running

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
# What the schema allows, and what it forbids.
BOTH = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


@pytest.fixture(scope="module")
def address(world: World) -> Iterator[str]:
    with running(world.app()) as url:
        yield url


def fuzz(address: str, method: str, path: str, mode: GenerationMode, examples: int) -> Counter[int]:
    """Sends so many generated requests, and checks every answer; how many there were by status."""
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    operation: APIOperation = schema[path][method]
    statuses: Counter[int] = Counter()

    with requests.Session() as session:

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,  # the same requests each time: what fails once can be looked into
            phases=[Phase.explicit, Phase.generate, Phase.shrink],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def send(case: Case) -> None:
            response = case.call(base_url=address, session=session)
            statuses[response.status_code] += 1
            case.validate_response(response, checks=CHECKS)

        send()
    return statuses


@pytest.mark.parametrize("mode", BOTH, ids=lambda mode: mode.value)
@pytest.mark.parametrize("examples", [60, pytest.param(3000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/search"), ("POST", "/feedback"), ("GET", "/snippets/{snippet_id}")]
)
def test_nothing_sent_is_a_server_error(
    address: str, method: str, path: str, examples: int, mode: GenerationMode
) -> None:
    statuses = fuzz(address, method, path, mode, examples)
    assert statuses.total() >= examples // 2
    assert statuses.keys() <= {200, 400, 404, 405, 413, 422}
    if (path, mode) == ("/search", GenerationMode.POSITIVE):
        assert statuses[200] > 0


@pytest.mark.parametrize("path", ["/health", "/metrics"])
def test_what_takes_nothing_answers(address: str, path: str) -> None:
    assert set(fuzz(address, "GET", path, GenerationMode.POSITIVE, 5)) == {200}


def test_every_documented_operation_is_fuzzed(world: World) -> None:
    assert {
        (method.upper(), path)
        for path, methods in world.app().openapi()["paths"].items()
        for method in methods
    } == {
        ("POST", "/search"),
        ("POST", "/feedback"),
        ("GET", "/snippets/{snippet_id}"),
        ("GET", "/health"),
        ("GET", "/metrics"),
    }
