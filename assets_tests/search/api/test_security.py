"""Who may use the service, from where, and what is written of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from assets_tests.search.api.conftest import BASE, TOKEN, World
from pipeline.errors import BadInputError
from pipeline.search.api import security
from pipeline.search.api.security import COOKIE, Sessions, is_loopback, own_path, require_safe_host

ClientOf = Callable[..., TestClient]
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
BEARER = {"Authorization": f"Bearer {TOKEN}"}
QUERY = {"query": "open a file"}


@pytest.fixture
def guarded(client_of: ClientOf) -> TestClient:
    """A service with a token."""
    return client_of(api_token=TOKEN)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("localhost", True),
        ("LOCALHOST.", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
    ],
)
def test_loopback_names(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback


def test_other_addresses_need_a_token() -> None:
    with pytest.raises(BadInputError, match="HONELOOP_API_TOKEN") as caught:
        require_safe_host("0.0.0.0", None)
    assert caught.value.exit_code == 2
    require_safe_host("0.0.0.0", SecretStr(TOKEN))
    require_safe_host("127.0.0.1", None)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer gehe\u00efm"},
        {"Cookie": f"{COOKIE}={TOKEN}"},
        {"Cookie": f"{COOKIE}=99999999999.{'0' * 64}"},
        {"Cookie": f"{COOKIE}=.; {COOKIE}=x"},
    ],
)
def test_without_the_token_nothing_is_answered(guarded: TestClient, headers: dict[str, str]) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    for method, path in (
        ("POST", "/search"),
        ("POST", "/feedback"),
        ("GET", "/snippets/1"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/"),
        ("GET", "/nowhere"),
        ("GET", "/health/../metrics"),
        ("POST", "/logout"),
    ):
        response = guarded.request(method, path, headers=raw)
        assert response.status_code == 401, (method, path)
        assert response.headers["www-authenticate"] == "Bearer"
        assert TOKEN not in response.text
    assert guarded.get("/health", headers=raw).status_code == 200


def test_with_the_token_everything_is(guarded: TestClient) -> None:
    assert guarded.post("/search", json=QUERY, headers=BEARER).status_code == 200
    assert guarded.get("/metrics", headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200
    # It came with a token, so it is no page of another site that rebound its name.
    assert guarded.post("/search", json=QUERY, headers={**BEARER, "Host": "code.example"}).status_code == 200


@pytest.mark.parametrize("token", ["ein-gehe\u00efmes-W\u00f6rtchen", "voil\u00e0-le-mot-de-pass\u00e0"])
def test_a_token_beyond_ascii_is_sent_in_utf_8(client_of: ClientOf, token: str) -> None:
    """As curl and the login page do; the last byte of the second is a space in Latin-1."""
    client = client_of(api_token=token)
    for sent, status in ((token, 200), (token[:-1], 401)):
        headers = [(b"authorization", f"Bearer {sent}".encode())]
        assert client.get("/metrics", headers=headers).status_code == status
    assert client.post("/login", data={"token": token}).status_code == 200
    assert client.get("/metrics").status_code == 200


def test_the_token_is_compared_in_constant_time(guarded: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the standard library's function for it, on bytes, whatever is offered."""
    compared: list[tuple[object, object]] = []

    def watched(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return False

    monkeypatch.setattr(security.hmac, "compare_digest", watched)
    assert guarded.get("/metrics", headers=BEARER).status_code == 401
    assert (TOKEN.encode(), TOKEN.encode()) in compared
    assert all(isinstance(side, bytes) for pair in compared for side in pair)


def test_a_browser_is_led_to_the_login_and_back(guarded: TestClient) -> None:
    response = guarded.get("/search?q=open+a+file&k=5", headers=BROWSER)
    assert response.status_code == 303
    assert response.headers["location"] == "/login?next=%2Fsearch%3Fq%3Dopen%2Ba%2Bfile%26k%3D5"
    # A program that posts is not.
    assert guarded.post("/search", json=QUERY, headers=BROWSER).status_code == 401


def test_a_login_gives_a_session_that_is_not_the_token(guarded: TestClient) -> None:
    response = guarded.post("/login", data={"token": TOKEN, "next": "/insights?days=7"}, headers=BROWSER)
    assert (response.status_code, response.headers["location"]) == (303, "/insights?days=7")
    cookie = response.headers["set-cookie"]
    assert TOKEN not in cookie
    attributes = [part.strip().lower() for part in cookie.split(";")]
    assert {"httponly", "samesite=strict", "path=/"} <= set(attributes)
    assert "secure" not in attributes
    assert guarded.get("/metrics").status_code == 200
    assert guarded.post("/search", json=QUERY).status_code == 200
    assert guarded.post("/logout").status_code == 200
    assert guarded.get("/metrics").status_code == 401


def test_over_https_the_cookie_stays_there(client_of: ClientOf) -> None:
    client = client_of(api_token=TOKEN)
    client.base_url = "https://code.example"
    response = client.post("/login", data={"token": TOKEN}, headers={"Origin": "https://code.example"})
    assert response.status_code == 200
    assert "; secure" in response.headers["set-cookie"].lower()


def test_sessions_end(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = Sessions(SecretStr(TOKEN))
    cookie = sessions.new()
    assert sessions.holds(cookie)
    assert not Sessions(SecretStr(TOKEN + "x")).holds(cookie)
    until, _, proof = cookie.partition(".")
    assert not sessions.holds(f"{int(until) + 1}.{proof}")
    assert not sessions.holds(f"{until}.")
    assert not sessions.holds("")
    now = time.time()
    monkeypatch.setattr(security.time, "time", lambda: now + security.SESSION_SECONDS + 1)
    assert not sessions.holds(cookie)


def test_a_wrong_token_gives_no_session_and_is_counted(client_of: ClientOf) -> None:
    client = client_of(api_token=TOKEN)
    response = client.post("/login", data={"token": "wrong", "next": "/insights"}, headers=BROWSER)
    assert (response.status_code, response.headers["location"]) == (303, "/login?wrong=1&next=%2Finsights")
    statuses = [client.post("/login", data={"token": f"guess {n}"}).status_code for n in range(12)]
    assert statuses == [401] * 9 + [429] * 3
    # Not even the right one, for a while.
    response = client.post("/login", data={"token": TOKEN})
    assert response.status_code == 429
    assert 1 <= int(response.headers["retry-after"]) <= 60
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "", "/a\nb", "javascript:1"],
)
def test_a_login_leads_nowhere_else(guarded: TestClient, target: str) -> None:
    assert own_path(target) == "/"
    response = guarded.post("/login", data={"token": TOKEN, "next": target}, headers=BROWSER)
    assert response.headers["location"] == "/"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8321", "127.0.0.1.evil.example", "[::1", "", "a@b"]
)
def test_a_page_that_points_its_own_name_here_reads_nothing(client: TestClient, host: str) -> None:
    for method, path in (("GET", "/health"), ("GET", "/snippets/1"), ("POST", "/search")):
        response = client.request(method, path, headers={"Host": host})
        assert response.status_code == 403
        assert "only to this machine's own names" in response.json()["error"]


@pytest.mark.parametrize("host", ["localhost", "localhost:8321", "[::1]:8321", "127.0.0.1:1"])
def test_this_machines_own_names_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "http://localhost:8321"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    ],
)
def test_what_another_sites_page_posts_is_refused(
    client: TestClient, guarded: TestClient, headers: dict[str, str]
) -> None:
    for path in ("/search", "/feedback", "/login"):
        assert client.post(path, json=QUERY, headers=headers).status_code == 403
    guarded.cookies.set(COOKIE, Sessions(SecretStr(TOKEN)).new())
    assert guarded.post("/search", json=QUERY).status_code == 200
    assert guarded.post("/search", json=QUERY, headers=headers).status_code == 403


def test_what_the_own_page_posts_is_taken(client: TestClient) -> None:
    headers = {"Origin": BASE, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    assert client.post("/search", json=QUERY, headers=headers).status_code == 200


def test_a_link_from_elsewhere_may_be_followed_but_not_embedded(client: TestClient) -> None:
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client.get("/snippets/1", headers=followed).status_code == 200
    for embedded in (
        {**followed, "Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    ):
        assert client.get("/snippets/1", headers=embedded).status_code == 403


def test_every_answer_has_the_security_headers(client: TestClient) -> None:
    for response in (
        client.get("/health"),
        client.post("/search", json={}),
        client.get("/nowhere"),
        client.get("/health", headers={"Host": "evil.example"}),
        client.post("/search", content=b"x" * 300_000),
    ):
        headers = response.headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers


def test_no_log_has_a_query_a_token_or_a_cookie(
    guarded: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "pipeline"):
        guarded.post("/search", json={"query": "unmistakable words"}, headers=BEARER)
        guarded.get("/search?q=unmistakable+words", headers=BEARER)
        guarded.get("/search?q=unmistakable&token=" + TOKEN)
        guarded.get("/metrics", headers={"Authorization": "Bearer unmistakable"})
        guarded.get(f"/{TOKEN}/search")
        guarded.post("/login", data={"token": "unmistakable"})
        guarded.post("/login", data={"token": TOKEN})
        guarded.post("/search", json={"query": "unmistakable", "source": "unmistakable"})
        guarded.get("/line%0Abreak%1b[31m")
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("pipeline")]
    access = [line for line in lines if line.split()[0] in {"GET", "POST"}]
    assert len(access) == 9
    assert access[0].startswith("POST /search 200 ")
    for line in lines:
        assert "unmistakable" not in line
        assert TOKEN not in line
        assert "honeloop_session" not in line
        assert "\n" not in line
        assert "\x1b" not in line


def test_settings_never_show_the_token(world: World) -> None:
    settings = world.app(api_token=TOKEN).state.settings
    assert TOKEN not in repr(settings)
    assert TOKEN not in settings.model_dump_json()
