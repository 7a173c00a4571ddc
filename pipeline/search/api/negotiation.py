"""Whether whoever asks is a person with a browser, or a program."""

from __future__ import annotations

from starlette.requests import HTTPConnection


def prefers_html(request: HTTPConnection) -> bool:
    """Whether `Accept` names HTML and puts it above JSON. Without the header, or with `*/*` alone: no."""
    html, json = 0.0, 0.0
    for part in request.headers.get("accept", "").split(","):
        kind, *parameters = (each.strip().lower() for each in part.split(";"))
        weight = _weight(parameters)
        if kind in {"text/html", "application/xhtml+xml"}:
            html = max(html, weight)
        elif kind == "application/json":
            json = max(json, weight)
    return html > json


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
