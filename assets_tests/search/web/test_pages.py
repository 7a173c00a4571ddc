"""The pages as they are sent: what they say when something is wrong, and to whom."""

from __future__ import annotations

import re
from collections.abc import Iterator
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from assets_tests.index.click_corpus import add_functions, some_functions, vanish
from assets_tests.search.web.site import Site, serving
from pipeline.config import Settings
from pipeline.store.connections import Database


@pytest.fixture
def bare(settings: Settings, db: Database) -> Iterator[Site]:
    """A service over an empty database."""
    with serving(settings, db) as site:
        yield site


def text(response: httpx.Response) -> str:
    """What the page says, without its markup."""
    main = response.text[response.text.index("<main") : response.text.index("</main>")]
    return " ".join(re.sub(r"<[^>]+>", " ", main).split())


def test_with_nothing_indexed_the_page_says_how_to_begin(bare: Site) -> None:
    home = bare.browse("/")
    assert home.status_code == 200
    assert "Nothing is indexed yet" in text(home)
    assert "honeloop run" in text(home)
    found = bare.browse("/search?q=anything")
    assert found.status_code == 503
    assert "Nothing is indexed yet. Run honeloop run or honeloop index ." in text(found)
    assert "<code>honeloop index</code>" in found.text
    assert found.headers["retry-after"] == "2"
    insights = bare.browse("/insights")
    assert insights.status_code == 200
    assert "Nobody searched in this period." in text(insights)
    assert "There is no model yet." in text(insights)
    assert "<svg class" not in insights.text.split("<main")[1]


def test_examples_are_what_the_indexed_code_says_of_itself(bare: Site, db: Database) -> None:
    assert "honeloop source add" in text(bare.browse("/"))
    functions = some_functions()
    add_functions(db, functions)
    home = bare.browse("/")
    assert "Search 250 pieces of code" in text(home)
    examples = re.findall(r'<li><a href="/search\?q=([^"]+)">([^<]+)</a>', home.text)
    assert len(examples) == 6
    documented = " ".join(f.documentation or "" for f in functions)
    for link, example in examples:
        assert example.replace("&#39;", "'") in documented
        assert link.split("+")[0] == example.split()[0]


def test_a_query_that_cannot_be_asked_is_explained_above_the_form(bare: Site, db: Database) -> None:
    add_functions(db, some_functions()[:3])
    for path, said in {
        "/search?q=++": "The query is empty. Say in a few words what the code should do.",
        f"/search?q={'x' * 10_001}": "The query has 10,001 characters; at most 10,000 are taken.",
        "/search?q=x&k=ten": "&#39;ten&#39; is no number of results. Give k as a whole number.",
        "/search?q=x&k=101": "k is 101; a page shows from 1 to 100 results.",
        "/search?q=x&kind=macro": "There is no kind of snippet &#39;macro&#39;.",
        "/search?q=x&path=[a": "has a set that is not one.",
        "/search?q=%00": "The query has characters that are no text.",
    }.items():
        response = bare.browse(path)
        assert response.status_code == 422, path
        assert said in text(response)
        assert '<input type="search" id="q"' in response.text
    assert bare.browse("/search").headers["location"] == "/"


def test_unknown_filters_say_what_there_is_and_can_be_taken_back(site: Site) -> None:
    response = site.browse("/search?q=x&language=cobol&source=nowhere")
    assert response.status_code == 422
    assert "There are: python." in text(response) or "Known: click, hostile, vendor." in text(response)
    assert re.search(r'value="cobol" checked', response.text)
    none = site.browse("/search?q=x&path=nowhere/*.zig")
    assert none.status_code == 200
    assert "Nothing passes these filters. Search without them" in text(none)


def test_a_database_that_is_away_is_an_error_page_and_not_a_crash(
    settings: Settings, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.search.engine.DATABASE_PATIENCE_SECONDS", 0.5)
    database = conninfo_to_dict(db.url)["dbname"]
    assert isinstance(database, str)
    name = sql.Identifier(database)
    with serving(settings, db) as site, psycopg.connect(db.url, autocommit=True, dbname="template1") as admin:
        assert site.browse("/").status_code == 200
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database])
        for path in ("/", "/search?q=x", "/insights", "/snippets/1"):
            response = site.browse(path)
            assert response.status_code == 503, path
            assert "database" in text(response).lower()
            assert response.headers["retry-after"] == "2"
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))


def test_a_vanished_snippet_says_so(bare: Site, db: Database) -> None:
    function = some_functions()[0]
    add_functions(db, [function])
    number = bare.rows("SELECT id FROM snippets")[0][0]
    assert "This code is gone." not in text(bare.browse(f"/snippets/{number}"))
    vanish(db, [function])
    page = bare.browse(f"/snippets/{number}")
    assert page.status_code == 200
    assert "This code is gone." in text(page)
    assert "Nowhere now." in text(page)


def test_what_is_not_there_is_a_page_for_people_and_json_for_programs(bare: Site) -> None:
    for path, status, said in (
        ("/snippets/4711", 404, "There is no snippet 4711."),
        ("/nowhere", 404, "There is nothing at this address."),
        ("/insights?days=8", 422, "There are no insights over 8 days."),
        ("/insights?days=many", 422, "is no number of days."),
        ("/static/../routes.py", 404, ""),
        ("/static/%2e%2e%2froutes.py", 404, ""),
        ("/static/base.html", 404, ""),
    ):
        response = bare.browse(path)
        assert response.status_code == status
        assert said in text(response)
        assert httpx.get(f"{bare.url}{path}").json()["error"]


def test_a_search_is_judged_only_where_it_showed_the_snippet(site: Site) -> None:
    found = site.browse("/search?q=open+a+file&k=3")
    search = re.findall(r'data-search="([^"]+)"', found.text)[0]
    first = re.findall(r'data-snippet="(\d+)"', found.text)[0]
    site.soon("SELECT FROM searches WHERE id = %s", [search], bool)
    assert 'data-do="accept"' in site.browse(f"/snippets/{first}?search={search}").text
    not_shown = site.rows(
        "SELECT id FROM snippets WHERE id NOT IN (SELECT snippet_id FROM impressions WHERE search_id = %s)",
        [search],
    )[0][0]
    for other in (f"{not_shown}?search={search}", f"{first}?search=nonsense", f"{first}", f"{first}?search="):
        page = site.browse(f"/snippets/{other}")
        assert page.status_code == 200
        assert 'data-do="accept"' not in page.text


def test_the_form_of_a_judgement_takes_what_the_api_would_and_from_this_site_only(site: Site) -> None:
    found = site.browse("/search?q=open+a+file&k=3")
    search = re.findall(r'data-search="([^"]+)"', found.text)[0]
    first = re.findall(r'data-snippet="(\d+)"', found.text)[0]
    cookies = dict(found.cookies)

    def sent(form: dict[str, str], headers: dict[str, str]) -> httpx.Response:
        given = {"search": search, "snippet": first, "judgement": "accept", **form}
        return httpx.post(
            f"{site.url}/judge", data=given, headers={"accept": "text/html", **headers}, cookies=cookies
        )

    for headers in (
        {"origin": "https://elsewhere.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
    ):
        assert sent({}, headers).status_code == 403
    for form, status in (
        ({"judgement": "click"}, 422),
        ({"judgement": "praise"}, 422),
        ({"search": "nonsense"}, 422),
        ({"search": str(uuid4())}, 404),
        ({"snippet": "0"}, 422),
        ({"snippet": str(2**70)}, 422),
        ({"snippet": "1' OR '1'='1"}, 422),
    ):
        refused = sent(form, {})
        assert refused.status_code == status, form
        assert 'role="alert"' in refused.text
    assert site.rows("SELECT FROM feedback WHERE search_id = %s", [search]) == []
    taken = sent({}, {})
    assert (taken.status_code, taken.headers["location"]) == (303, f"/snippets/{first}?search={search}")
    assert site.said(search, 1)[0][:2] == (int(first), "accept")


def test_everybody_has_an_id_that_only_the_service_made(site: Site) -> None:
    first = site.browse("/")
    cookie = first.headers["set-cookie"]
    assert re.match(
        r"honeloop_visitor=[0-9a-f]{32}; HttpOnly; Max-Age=31536000; Path=/; SameSite=lax", cookie
    )
    mine = first.cookies["honeloop_visitor"]
    assert site.browse("/", cookies={"honeloop_visitor": mine}).cookies["honeloop_visitor"] == mine
    for forged in ("someone", "0" * 33, "<script>", str(uuid4())):
        assert site.browse("/", cookies={"honeloop_visitor": forged}).cookies["honeloop_visitor"] != forged
    assert site.browse("/").cookies["honeloop_visitor"] != mine


def test_a_name_is_checked_and_leads_back_to_this_site_only(site: Site) -> None:
    def named(name: str, target: str = "/search?q=x") -> httpx.Response:
        return httpx.post(
            f"{site.url}/name", data={"name": name, "next": target}, headers={"accept": "text/html"}
        )

    good = named("  Zoë  ")
    assert (good.status_code, good.headers["location"]) == (303, "/search?q=x")
    cookies = {"honeloop_name": good.cookies["honeloop_name"]}
    assert 'data-user="Zoë"' in site.browse("/", cookies=cookies).text
    assert named("x", "//elsewhere.example").headers["location"] == "/"
    for bad in ("web:" + "0" * 32, "x" * 61, "a\tb", "WEB:me"):
        assert named(bad).status_code == 422
        assert "set-cookie" not in named(bad).headers
    assert 'data-user="web:' in site.browse("/", cookies={"honeloop_name": "web%3A1"}).text
    other = httpx.post(
        f"{site.url}/name", data={"name": "me"}, headers={"origin": "https://elsewhere.example"}
    )
    assert other.status_code == 403


def test_a_page_fetched_ahead_of_time_is_no_search(site: Site) -> None:
    before = site.rows("SELECT count(*) FROM searches WHERE query = 'ahead of time'")
    response = httpx.get(f"{site.url}/search?q=ahead+of+time", headers={"sec-purpose": "prefetch;prerender"})
    assert response.status_code == 503
    site.browse("/search?q=asked+in+earnest")
    site.soon("SELECT FROM searches WHERE query = 'asked in earnest'", [], bool)
    assert site.rows("SELECT count(*) FROM searches WHERE query = 'ahead of time'") == before


def test_pages_load_only_what_is_served_here(site: Site) -> None:
    html = site.browse("/search?q=open+a+file").text
    assert "style=" not in html
    assert "<style" not in html
    assert not re.search(r"<script(?![^>]* src=)", html)
    assert not re.search(r"\son[a-z]+=", html)
    loaded = re.findall(r'<(?:script|link)[^>]* (?:src|href)="([^"]+)"', html)
    files = [each for each in loaded if not each.startswith("/search")]
    assert len(files) == 3
    for each in files:
        response = httpx.get(f"{site.url}{each}")
        assert response.status_code == 200
        assert "immutable" in response.headers["cache-control"]
    assert "immutable" not in httpx.get(f"{site.url}/static/honeloop.css?v=0").headers["cache-control"]
    assert httpx.get(f"{site.url}/static/honeloop.js").headers["content-type"].startswith("text/javascript")


def test_with_a_token_people_log_in_first(settings: Settings, db: Database) -> None:
    token = "a-token-of-the-test"
    with serving(settings.model_copy(update={"api_token": SecretStr(token)}), db) as site:
        sent = site.browse("/insights?days=7")
        assert (sent.status_code, sent.headers["location"]) == (303, "/login?next=%2Finsights%3Fdays%3D7")
        login = site.browse(sent.headers["location"])
        assert login.status_code == 200
        assert 'name="next" value="/insights?days=7"' in login.text
        assert site.browse("/static/honeloop.css").status_code == 200
        form = {"token": "wrong", "next": "/insights?days=7"}
        wrong = httpx.post(
            f"{site.url}/login", data=form, headers={"accept": "text/html"}, follow_redirects=True
        )
        assert wrong.status_code == 401
        assert "That is not the token." in text(wrong)
        right = httpx.post(
            f"{site.url}/login", data={**form, "token": token}, headers={"accept": "text/html"}
        )
        page = site.browse(right.headers["location"], cookies=dict(right.cookies))
        assert page.status_code == 200
        assert 'action="/logout"' in page.text
        assert 'value="https' not in site.browse("/login?next=https://elsewhere.example").text
        assert token not in page.text
