"""Secrets in code: which are found, what stands in their place, and that none is stored anywhere."""

from __future__ import annotations

import base64
import random
import string
from collections.abc import Callable
from importlib.metadata import files
from pathlib import Path

import pytest

from assets_tests.corpus.conftest import Extract
from assets_tests.corpus.making import GitRepository, function, write_tree
from pipeline.config import PROJECT_ROOT, Settings
from pipeline.corpus.redacting import redact_what_is_left
from pipeline.corpus.repositories import get_repository
from pipeline.corpus.secrets import REPLACEMENT, Detector
from pipeline.errors import BadInputError
from pipeline.progress import Silent
from pipeline.store.connections import Connection, Database
from pipeline.training.commit_mining import mine_commits

_DRAW = random.Random(5)
_LETTERS = string.ascii_letters + string.digits


def drawn(count: int, letters: str = _LETTERS) -> str:
    return "".join(_DRAW.choice(letters) for _ in range(count))


# Drawn here and put together here, so that this file holds none.
GITHUB = f"ghp_{drawn(36)}"
AWS_ID = f"AKIA{drawn(16, string.ascii_uppercase + '234567')}"
AWS_KEY = drawn(40)
PASSWORD = drawn(20)
PEM_LINES = [drawn(64, _LETTERS + "+/") for _ in range(13)]
BEGIN, END = "-----BEGIN RSA " + "PRIVATE KEY-----", "-----END RSA " + "PRIVATE KEY-----"

# Of each: the code, and what of it must be gone.
CODE: dict[str, tuple[str, list[str]]] = {
    "github-pat": (f'token = "{GITHUB}"', [GITHUB]),
    "in a comment": (f"# the key is {GITHUB} for now", [GITHUB]),
    "in a docstring": (f'"""Signs in with {GITHUB}."""', [GITHUB]),
    "without quotes": (f"export TOKEN={GITHUB}", [GITHUB]),
    "two on a line": (f'login("{GITHUB}", "{AWS_ID}")', [GITHUB, AWS_ID]),
    "aws pair": (f'id = "{AWS_ID}"\naws_secret_access_key = "{AWS_KEY}"', [AWS_ID, AWS_KEY]),
    "aws key alone": (f'AWS_SECRET_ACCESS_KEY = "{AWS_KEY}"', [AWS_KEY]),
    "aws id alone": (f'connect("{AWS_ID}")', [AWS_ID]),
    "password": (f'password = "{PASSWORD}1a2b"', [PASSWORD]),
    "password in a dict": (f'{{"db_password": "{PASSWORD}1a2b"}}', [PASSWORD]),
    "api key": (f"const apiKey = '{drawn(8)}1{PASSWORD}2b'", [PASSWORD]),
    "url": (f'db = "postgres://admin:{PASSWORD}@db.internal.net/prod"', [PASSWORD]),
    "header": (f'{{"Authorization": "Bearer {PASSWORD}12"}}', [PASSWORD]),
    "slack": (f'slack = "xoxb-{drawn(12, "123456")}-{drawn(12, "123456")}-{AWS_KEY[:24]}"', [AWS_KEY[:24]]),
    "pem": (f'key = """{BEGIN}\n' + "\n".join(PEM_LINES) + f'\n{END}"""', PEM_LINES),
    "pem by lines": (
        f'key = (\n    "{BEGIN}\\n"\n'
        + "".join(f'    "{line}\\n"\n' for line in PEM_LINES)
        + f'    "{END}"\n)',
        PEM_LINES,
    ),
    "base64": (
        f'x = "{base64.b64encode(GITHUB.encode()).decode()}"',
        [base64.b64encode(GITHUB.encode()).decode()],
    ),
    "longer than the rule": (f'x = "{GITHUB}{"="}{PASSWORD}"', [GITHUB]),
}

# What looks like one to those who go by entropy or by names.
NONE = f'''
password = getpass("Your password: ")
token = os.environ["GITHUB_TOKEN"]
secret_key = settings.secret_key
api_key = "{{{{ api_key }}}}"
password = "<your password here>"
sha256 = "{"0123456789abcdef" * 4}"
commit = "8b107d5f0c1b2a3948576a6b7c8d9e0f11223344"
uuid = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
url = f"postgres://{{user}}:{{password}}@{{host}}/{{name}}"
def token_of(text, password="secret"): ...
'''


@pytest.fixture(scope="module")
def clean() -> Callable[[str], str]:
    detector = Detector(Settings())
    return lambda text: detector.clean(text.encode()).text.decode()


@pytest.mark.parametrize("name", CODE)
def test_a_secret_is_replaced_where_it_stands(name: str) -> None:
    code, secrets = CODE[name]
    text = f"def first():\n    return 1\n\n\n{code}\n\n\ndef last():\n    return 2\n"
    found = Detector(Settings()).clean(text.encode())
    cleaned = found.text.decode()
    assert not any(secret in cleaned for secret in secrets)
    assert REPLACEMENT.decode() in cleaned
    assert cleaned.count("\n") == text.count("\n")
    assert cleaned.count('"') == text.count('"')
    assert cleaned.startswith("def first():\n    return 1\n\n\n")
    assert cleaned.endswith("\n\n\ndef last():\n    return 2\n")
    assert found.found
    assert {line for line, _ in found.found} <= {5, 6}


def test_only_the_secret_goes(clean: Callable[[str], str]) -> None:
    assert clean(f'client = connect(key="{AWS_ID}", region="eu")') == (
        'client = connect(key="REDACTED", region="eu")'
    )
    assert clean(CODE["url"][0]) == 'db = "postgres://admin:REDACTED@db.internal.net/prod"'
    assert clean(CODE["without quotes"][0]) == "export TOKEN=REDACTED"


def test_what_only_looks_like_one_stays(clean: Callable[[str], str]) -> None:
    assert clean(NONE) == NONE


def test_real_code_has_none() -> None:
    detector = Detector(Settings())
    paths = [
        path.locate() for name in ("rich", "click") for path in files(name) or () if path.suffix == ".py"
    ]
    paths += [*(PROJECT_ROOT / "pipeline").rglob("*.py"), Path(__file__)]
    assert len(paths) > 300
    for path in paths:
        assert detector.clean(Path(str(path)).read_bytes()).found == (), path


@pytest.mark.parametrize(
    "mark", ["kingfisher:ignore", "gitleaks:allow", "pragma: allowlist secret", "betterleaks:allow"]
)
def test_what_is_allowed_by_a_comment_stays_and_nothing_beside_it(
    clean: Callable[[str], str], mark: str
) -> None:
    line = f'token = "{GITHUB}"'
    gone = 'token = "REDACTED"'
    assert clean(f"{line}  # {mark}\n{line}\n") == f"{line}  # {mark}\n{gone}\n"
    assert clean(f"{line}\n{line}  # {mark}\n") == f"{gone}\n{line}  # {mark}\n"
    assert clean(f"# {mark}\n{line}\n{line}\n") == f"# {mark}\n{line}\n{gone}\n"
    assert clean(f"x = 1  # {mark}\n{line}\n") == f"x = 1  # {mark}\n{gone}\n"


@pytest.mark.slow  # rules that were never compiled take ten seconds
def test_rules_of_ones_own(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text("rules:\n  - name: Ours\n    id: ours.key\n    pattern: '\\b(our_[a-z]{8})\\b'\n")
    own = Detector(Settings(secret_rules=rules))
    assert own.clean(b"x = 'our_abcdefgh'").text == b"x = 'REDACTED'"
    assert own.clean(b"x = 'our_abcdefgh'").found == [(1, "key")]
    rules.write_text(rules.read_text().replace("our_", "his_"))
    assert Detector(Settings(secret_rules=rules)).clean(b"x = 'his_abcdefgh'").text == b"x = 'REDACTED'"


def test_no_rules_and_wrong_ones(tmp_path: Path) -> None:
    off = Detector(Settings(find_secrets=False))
    assert off.clean(f"x = '{GITHUB}'".encode()).text == f"x = '{GITHUB}'".encode()
    rules = tmp_path / "rules.yml"
    versions = {off.version, Detector(Settings()).version}
    for content in ("rules: []", "rules: ["):
        rules.write_text(content)
        versions.add(Detector(Settings(secret_rules=rules)).version)
    assert len(versions) == 4  # each reads every file again
    with pytest.raises(BadInputError, match="cannot be used"):
        Detector(Settings(secret_rules=rules)).clean(b"x")
    with pytest.raises(BadInputError, match="cannot be read"):
        Detector(Settings(secret_rules=tmp_path / "nowhere.yml"))


SIGN_IN = f'''\
def sign_in(user, token="{GITHUB}"):
    """Signs in at the server as {GITHUB} says.

    More of {AWS_ID}.
    """
    # Not {AWS_KEY}: aws_secret_access_key = "{AWS_KEY}"
    return connect(user, token, "{AWS_ID}")
'''
SECRETS = (GITHUB, AWS_ID, AWS_KEY)


def everything(db: Database) -> str:
    """All rows of all tables, as text."""
    with db.connect() as connection:
        tables = connection.execute(
            "SELECT quote_ident(table_schema) || '.' || quote_ident(table_name)"
            " FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
        ).fetchall()
        return "\n".join(
            str(row[0])
            for (table,) in tables
            for row in connection.execute(f"SELECT t::text FROM {table} t".encode())
        )


def test_no_secret_is_stored_anywhere_and_each_is_told(
    db: Database, tmp_path: Path, settings: Settings, extract: Extract
) -> None:
    repository = GitRepository(tmp_path / "code")
    repository.commit({"net.py": SIGN_IN.replace("connect(", "link("), "a.py": function("a")})
    repository.commit(
        {"net.py": SIGN_IN, "a.py": function("a")}, message="Connect to the server when signing in"
    )
    repository.commit(
        {"net.py": SIGN_IN.replace("user, token,", "user, token or None,"), "a.py": function("a")},
        message=f"Let people sign in without a token\n\nThe old one was {GITHUB} on the server.",
    )
    report = extract("code", repository.path)
    assert report.secrets == 6
    (problem,) = report.problems
    assert problem.startswith("net.py: 6 secrets were left out: line 1 (")
    assert "github-pat" in problem
    mine_commits(db, settings, Silent())
    stored = everything(db)
    assert "Connect to the server when signing in" in stored
    assert "a secret in the message" in stored
    assert "REDACTED" in stored
    assert not [secret for secret in SECRETS if secret in stored]
    assert get_repository(db, "code").report["secrets"] == 6

    with db.connect() as connection:
        row = connection.execute(
            "SELECT code, start_line, end_line FROM snippets WHERE symbol = 'sign_in'"
        ).fetchone()
    assert row is not None
    lines = SIGN_IN.rstrip("\n").split("\n")
    assert (row[1], row[2], len(row[0].split("\n"))) == (1, len(lines), len(lines))
    assert row[0].split("\n")[0] == 'def sign_in(user, token="REDACTED"):'

    # The next extraction reads nothing, and still tells them.
    again = extract("code")
    assert (again.files_parsed, again.secrets, again.problems) == (0, 6, report.problems)
    # Other rules read every file again.
    off = extract("code", find_secrets=False)
    assert (off.files_parsed, off.secrets, off.problems) == (2, 0, [])
    on = extract("code")
    assert (on.files_parsed, on.secrets) == (2, 6)


def test_what_an_earlier_version_stored_is_redacted_where_no_file_has_it_any_more(
    db: Database, tmp_path: Path, extract: Extract
) -> None:
    """As before secrets were looked for; then one file goes, and a model has learned from another."""
    repository = GitRepository(tmp_path / "code")
    repository.commit(
        {"net.py": SIGN_IN, "a.py": function("a"), "gone.py": SIGN_IN.replace("sign_in", "log_in")}
    )
    extract("code", repository.path, find_secrets=False)
    repository.commit({"net.py": SIGN_IN, "a.py": function("a")})
    extract("code", find_secrets=False)
    with db.connect() as connection:
        keep_model_and_set(connection)
        connection.execute(
            "INSERT INTO training_pairs (training_set_id, split, origin, query, positive_hash, positive_text,"
            " weight, language, group_key) SELECT 1, 'train', 'feedback', 'sign in', content_hash, code, 1,"
            " language, '' FROM snippets WHERE symbol = 'sign_in'"
        )
        connection.execute(
            "INSERT INTO training_negatives (pair_id, negative_hash, negative_text, reason)"
            " SELECT 1, content_hash, code, 'mined' FROM snippets WHERE symbol = 'log_in'"
        )
        connection.execute("INSERT INTO measured_texts VALUES (sha256('x'), %s)", [SIGN_IN])
        keep_queries(connection, "docstring", DOCUMENTATION)
        before = connection.execute("SELECT id, content_hash, vanished_at FROM snippets").fetchall()
    assert all(secret in everything(db) for secret in SECRETS)

    report = extract("code")
    # Two contents; the snippet that vanished; the pair, its negative, and what was measured; three queries.
    assert report.problems[0] == "9 texts kept from before held secrets, which were taken out"
    stored = everything(db).lower()  # as words are
    assert not [secret for secret in SECRETS if secret.lower() in stored]
    with db.connect() as connection:
        gone = connection.execute(
            "SELECT id, content_hash, vanished_at, code FROM snippets WHERE symbol = 'log_in'"
        ).fetchone()
        learned = connection.execute("SELECT positive_text FROM training_pairs ORDER BY id").fetchone()
        queries = queries_and_keys(connection)
    assert gone is not None
    assert gone[:3] in before  # a judgement of it is of the same snippet
    assert gone[3].startswith('def log_in(user, token="REDACTED"):')
    assert learned is not None
    assert learned[0].startswith('def sign_in(user, token="REDACTED"):')
    assert queries == {("Signs in at the server as REDACTED says.", KEY)}
    # Once is enough.
    assert extract("code").problems == report.problems[1:]


DOCUMENTATION = f"Signs in at the server as {GITHUB} says."
KEY = b"k" * 32


def keep_model_and_set(connection: Connection) -> None:
    """A model, and an empty training set for it."""
    connection.execute(
        "INSERT INTO model_versions (version, name, spec, dims, location, state)"
        " VALUES (repeat('a', 64), 'made', '{}', 3, '/nowhere', 'base')"
    )
    connection.execute(
        "INSERT INTO training_sets (fingerprint, pairs_fingerprint, model_version, counts, settings)"
        " VALUES ('f', 'f', repeat('a', 64), '{}', '{}')"
    )


def keep_queries(connection: Connection, origin: str, query: str) -> None:
    """As a training set, a frozen test set and an evaluation keep it; there is a model and a training set."""
    connection.execute(
        "INSERT INTO training_pairs (training_set_id, split, origin, query, positive_hash, positive_text,"
        " weight, language, group_key) SELECT 1, 'test', %s, %s, content_hash, 'f = 1', 1, 'python', %s"
        " FROM contents LIMIT 1",
        [origin, query, KEY],
    )
    connection.execute("INSERT INTO measured_corpora VALUES (sha256(''), 0, '')")
    connection.execute(
        "INSERT INTO test_sets (name, rules, queries, corpus) VALUES ('t', '2', 1, sha256(''))"
    )
    connection.execute(
        "INSERT INTO test_set_queries VALUES ('t', %s, %s, %s, 'python', 'code', '{}', '{}', '{}')",
        [KEY, query, origin],
    )
    connection.execute(
        "INSERT INTO evaluations (model_version, test_set, queries, corpus, metrics)"
        " SELECT version, 't', 1, 0, '{}' FROM model_versions"
    )
    connection.execute(
        "INSERT INTO evaluation_queries (evaluation_id, query_key, query, origin, language, metrics)"
        " SELECT id, %s, %s, %s, 'python', '{}' FROM evaluations",
        [KEY, query, origin],
    )


def queries_and_keys(connection: Connection) -> set[tuple[str, bytes]]:
    """Of all that `keep_queries` stored."""
    return set(
        connection.execute(
            "SELECT query, group_key FROM training_pairs WHERE split = 'test'"
            " UNION ALL SELECT query, query_key FROM test_set_queries"
            " UNION ALL SELECT query, query_key FROM evaluation_queries"
        ).fetchall()
    )


def test_what_people_asked_stays_as_they_asked_it(db: Database) -> None:
    """Forgetting somebody finds their queries by their words."""
    asked = f"why is {GITHUB} refused"
    with db.connect() as connection:
        keep_model_and_set(connection)
        connection.execute("INSERT INTO contents (content_hash, text) VALUES (sha256('x'), 'x')")
        keep_queries(connection, "feedback", asked)
        assert redact_what_is_left(connection, Detector(Settings())) == 0
        assert queries_and_keys(connection) == {(asked, KEY)}


def test_a_secret_in_a_commit_that_is_no_more(
    db: Database, tmp_path: Path, settings: Settings, extract: Extract
) -> None:
    # History holds what the newest files no longer do.
    repository = GitRepository(tmp_path / "code")
    repository.commit({"net.py": SIGN_IN.replace("connect(", "link(")})
    repository.commit({"net.py": SIGN_IN}, message="Connect to the server when signing in")
    gone = SIGN_IN
    for secret in SECRETS:
        gone = gone.replace(secret, "asked for")
    repository.commit({"net.py": gone}, message="Ask people for the token of the server")
    assert extract("code", repository.path).secrets == 0
    mine_commits(db, settings, Silent())
    stored = everything(db)
    assert "Ask people for the token of the server" in stored
    assert not [secret for secret in SECRETS if secret in stored]


def test_a_directory_and_its_web_of_languages(db: Database, tmp_path: Path, extract: Extract) -> None:
    tree = write_tree(
        tmp_path / "tree",
        {
            "a.js": f"function signIn() {{\n  const key = '{GITHUB}'\n  return open(key)\n}}\n",
            "a.go": f'package a\n\nfunc SignIn() string {{\n\treturn open("{GITHUB}")\n}}\n',
            "a.sh": f'sign_in() {{\n  export TOKEN={GITHUB}\n  curl "$TOKEN"\n}}\n',
        },
    )
    report = extract("tree", tree)
    assert (report.secrets, report.files_with_syntax_errors) == (3, 0)
    stored = everything(db)
    assert GITHUB not in stored
    assert stored.count("REDACTED") >= 3
