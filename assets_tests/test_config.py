"""What people are told to set can be set."""

import re

from pipeline.config import PROJECT_ROOT, Settings

# Read elsewhere: who asks, whether a traceback is shown, what a notebook and a benchmark need.
OTHERS = {
    "HONELOOP_USER",
    "HONELOOP_TRACEBACK",
    "HONELOOP_NIGHTS",
    "HONELOOP_COCOINDEX_PYTHON",
    "HONELOOP_BENCH_ROOTS",
}
NAMED = re.compile(r"\bHONELOOP_[A-Z0-9_]*[A-Z0-9]\b")


def test_every_variable_that_is_named_is_a_setting():
    settings = {f"HONELOOP_{name.upper()}" for name in Settings.model_fields} | OTHERS
    saying = [
        *(PROJECT_ROOT / "pipeline").rglob("*.py"),
        *(PROJECT_ROOT / "docs").glob("*.md"),
        *(PROJECT_ROOT / "notebooks").glob("*.ipynb"),
        *(PROJECT_ROOT / name for name in ("README.md", "dagster.yaml", "Makefile")),
    ]
    named = {file: set(NAMED.findall(file.read_text(encoding="utf-8"))) for file in saying}
    assert {str(file): names - settings for file, names in named.items() if names - settings} == {}


def test_every_setting_says_what_it_means():
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
