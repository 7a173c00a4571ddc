"""Code whose every part tries to be more than text."""

from __future__ import annotations

from assets_tests.index.click_corpus import Function

SCRIPT = Function(
    'pages/"><script>window.hacked=1</script>.py',
    "<img src=x onerror=window.hacked=2>",
    'def page():\n    """Renders the evil page template as html."""\n'
    "    return '</span></code><script>window.hacked = 3</script>' + \"{{ 7*7 }}\" + '&lt;&amp;'\n"
    "    # ünïcödé \u202e 日本語 🐝 \t tab\n",
    7,
    None,
)
QUOTES = Function(
    'pages/o\'neill & sons/"quoted" file.py',
    "it's_<b>bold</b>",
    "def quoted():\n"
    "    '''Escapes single and double quotes of an sql statement.'''\n\n    return \"'\" + '\"'",
    1,
    None,
)
HOSTILE = (SCRIPT, QUOTES)
