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
from pipeline.search.web.rendering import SCRIPTS
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


def test_a_query_that_cannot_be_asked_is_explained_beside_the_field_it_is_about(
    bare: Site, db: Database
) -> None:
    add_functions(db, some_functions()[:3])
    for path, control, said in (
        ("/search?q=++", "q", "Query: The query is empty. Say in a few words what the code should do."),
        (
            f"/search?q={'x' * 10_001}",
            "q",
            "Query: The query has 10,001 characters; at most 10,000 are taken.",
        ),
        ("/search?q=%00", "q", "Query: The query has characters that are no text."),
        ("/search?q=x&k=ten", "k", "Results (k): &#39;ten&#39; is no number of results. Give k as a whole"),
        ("/search?q=x&k=101", "k", "Results (k): k is 101; a page shows from 1 to 100 results."),
        (f"/search?q=x&k={'9' * 5000}", "k", "is no number of results."),
        ("/search?q=x&path=[a", "path", "Path: The path has a set that is not one: &#39;[a&#39;."),
        ("/search?q=x&kind=macro", "", "Kind: There is no kind of snippet &#39;macro&#39;."),
    ):
        response = bare.browse(path)
        assert response.status_code == 422, path
        assert said in text(response)
        assert response.text.count('role="alert"') == 1
        (marked,) = re.findall(r"<([^>]*)aria-invalid=\"true\" aria-describedby=\"problem\"", response.text)
        assert f'name="{control}"' in marked if control else marked.startswith("summary")
        assert '<p class="problem" id="problem"' in response.text
    assert bare.browse("/search").headers["location"] == "/"


def test_a_wrong_number_of_results_loses_none_of_the_filters(bare: Site, db: Database) -> None:
    add_functions(db, some_functions()[:3])
    page = bare.browse("/search?q=read+a+file&k=ten&language=python&source=click&path=src/*.py").text
    assert 'value="read a file"' in page
    assert 'value="src/*.py"' in page
    assert re.search(r'name="language" value="python" checked', page)
    assert re.search(r'name="source" value="click" checked', page)


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
        ("/static/0/../routes.py", 404, ""),
        ("/static/0/%2e%2e%2froutes.py", 404, ""),
        ("/static/0/base.html", 404, ""),
    ):
        response = bare.browse(path)
        assert response.status_code == status
        assert said in text(response)
        assert httpx.get(f"{bare.url}{path}").json()["error"]


def test_a_period_that_there_is_not_is_explained_beside_those_there_are(bare: Site) -> None:
    for days, said in (("8", "There are no insights over 8 days."), ("many", "is no number of days.")):
        page = bare.browse(f"/insights?days={days}")
        assert page.status_code == 422
        assert "Period (days):" in text(page)
        assert said in text(page)
        assert 'aria-label="Period" aria-describedby="problem"' in page.text
        assert [int(each) for each in re.findall(r'href="/insights\?days=([0-9]+)"', page.text)] == [
            7,
            30,
            90,
        ]
        refused = httpx.get(f"{bare.url}/insights?days={days}")
        assert refused.status_code == 422
        assert [each["field"] for each in refused.json()["fields"]] == ["days"]


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


def test_a_result_that_is_opened_by_its_link_is_recorded_once(site: Site) -> None:
    found = site.browse("/search?q=open+a+file&k=3")
    search = re.findall(r'data-search="([^"]+)"', found.text)[0]
    first, second, *_ = re.findall(r'data-snippet="(\d+)"', found.text)
    cookies = dict(found.cookies)
    user = f"web:{cookies['honeloop_visitor']}"
    assert f'href="/open/{search}/{first}"' in found.text
    assert f'href="/snippets/{first}' not in found.text

    def opened(path: str, **headers: str) -> str:
        answer = (
            site.browse(f"/open/{path}", cookies=cookies)
            if not headers
            else httpx.get(
                f"{site.url}/open/{path}", headers={"accept": "text/html", **headers}, cookies=cookies
            )
        )
        assert answer.status_code == 303
        return answer.headers["location"]

    # At once: the search may still wait on disk. And twice, as by going back and forth.
    for _ in range(2):
        assert opened(f"{search}/{first}") == f"/snippets/{first}?search={search}"
    own = {"sec-fetch-site": "same-origin", "referer": f"{site.url}/search?q=x"}
    for headers in (own, {"referer": own["referer"]}):
        assert opened(f"{search}/{first}", **headers) == f"/snippets/{first}?search={search}"
    assert site.said(search, 1) == [(int(first), "click", None, user)]
    # A link that was passed on, or that another site's page leads to, shows the code and says nothing.
    elsewhere = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    for headers in (
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "cross-site", **elsewhere},
        {"sec-fetch-site": "same-site", **elsewhere},
        {"referer": "https://elsewhere.example/"},
        {"referer": f"{site.url}.elsewhere.example/"},
        {"referer": "http://[broken"},
    ):
        assert opened(f"{search}/{second}", **headers) == f"/snippets/{second}"
    # Nor is anything recorded that was never shown.
    not_shown = site.rows(
        "SELECT id FROM snippets WHERE id NOT IN (SELECT snippet_id FROM impressions WHERE search_id = %s)",
        [search],
    )[0][0]
    assert opened(f"{search}/{not_shown}") == f"/snippets/{not_shown}"
    assert opened(f"{uuid4()}/{first}") == f"/snippets/{first}"
    prefetch = httpx.get(f"{site.url}/open/{search}/{second}", headers={"sec-purpose": "prefetch"})
    assert prefetch.status_code == 503
    embedded = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}
    assert httpx.get(f"{site.url}/open/{search}/{second}", headers=embedded).status_code == 403
    for path in (f"nonsense/{first}", f"{search}/0", f"{search}/x", f"{search}//elsewhere.example"):
        assert site.browse(f"/open/{path}").status_code in {404, 422}
    assert len(site.said(search, 1)) == 1


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
        refused = named(bad)
        assert refused.status_code == 422
        assert "set-cookie" not in refused.headers
        # What was typed stands in the field again, and why it cannot be stands beside it.
        assert f'name="name" value="{bad}"' in refused.text
        assert 'aria-invalid="true" aria-describedby="name-problem"' in refused.text
        assert '<p class="problem" id="name-problem" role="alert"><strong>Name:</strong>' in refused.text
        assert 'name="next" value="/search?q=x"' in refused.text
    program = httpx.post(f"{site.url}/name", data={"name": "x" * 61})
    assert [each["field"] for each in program.json()["fields"]] == ["name"]
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
    assert len(files) == 2 + len(SCRIPTS)
    for each in files:
        response = httpx.get(f"{site.url}{each}")
        assert response.status_code == 200
        assert "immutable" in response.headers["cache-control"]
    assert "immutable" not in httpx.get(f"{site.url}/static/0/honeloop.css").headers["cache-control"]
    for name in SCRIPTS:
        sent = httpx.get(f"{site.url}/static/0/{name}")
        assert sent.headers["content-type"].startswith("text/javascript")
        assert set(re.findall(r'"\./([a-z]+\.js)"', sent.text)) <= set(SCRIPTS)
        assert sent.text.count("\n") < 400


def test_with_a_token_people_log_in_first(settings: Settings, db: Database) -> None:
    token = "a-token-of-the-test"
    with serving(settings.model_copy(update={"api_token": SecretStr(token)}), db) as site:
        sent = site.browse("/insights?days=7")
        assert (sent.status_code, sent.headers["location"]) == (303, "/login?next=%2Finsights%3Fdays%3D7")
        login = site.browse(sent.headers["location"])
        assert login.status_code == 200
        assert 'name="next" value="/insights?days=7"' in login.text
        assert site.browse("/static/0/honeloop.css").status_code == 200
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
