"""`honeloop settings`: every setting with its value, its default and what it means."""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.commands.common import (
    USER_VARIABLE,
    Json,
    output,
    print_json,
    settings_in_force,
    shown_url,
)
from pipeline.commands.errors import TRACEBACK_VARIABLE

if TYPE_CHECKING:
    from pipeline.config import Settings

PREFIX = "HONELOOP_"
# Read elsewhere than in the settings.
_OTHERS = (USER_VARIABLE, TRACEBACK_VARIABLE)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        epilog="Examples:\n\n[cyan]honeloop settings gate[/cyan]   those that have to do with the gate\n\n"
        "[cyan]honeloop settings --set[/cyan]   those that are set in the environment"
    )(settings)


def settings(
    words: Annotated[
        list[str] | None, typer.Argument(help="Only those in whose name or meaning each of these stands.")
    ] = None,
    only_set: Annotated[bool, typer.Option("--set", help="Only those that the environment sets.")] = False,
    json: Json = False,
) -> None:
    """Lists every setting: its environment variable, the value in force, its default, and what it means."""
    from rich.markup import escape
    from rich.padding import Padding

    wanted = [word.casefold() for word in words or ()]
    found = [
        each
        for each in listed(settings_in_force())
        if (each["set"] or not only_set)
        and all(word in f"{each['variable']} {each['about']} {each['meaning']}".casefold() for word in wanted)
    ]
    unknown = unknown_variables(os.environ)
    if json:
        print_json({"settings": found, "unknown": unknown})
        return
    console = output()
    for about in dict.fromkeys(each["about"] for each in found):
        console.print(f"[bold]{about}[/bold]\n")
        for each in found:
            if each["about"] == about:
                value, default = (escape(_shown(each[name])) for name in ("value", "default"))
                other = f"  [dim](default: {default})[/dim]" if value != default else ""
                # One line, however long: a variable that is cut in two cannot be copied.
                console.print(
                    f"[{'green' if each['set'] else 'cyan'}]{each['variable']}[/] = {value}{other}",
                    soft_wrap=True,
                )
                console.print(Padding(escape(each["meaning"]), (0, 0, 0, 4), expand=False))
        console.print()
    if not found:
        console.print("No setting is like that.")
    for name, near in unknown.items():
        console.print(
            f"[yellow]{escape(name)} is set, and is no setting.[/yellow]"
            + (f" Is {near} meant?" if near else "")
        )


def listed(settings: Settings) -> list[dict[str, Any]]:
    """Every setting by its matter: variable, value, default, whether it is set, and what it means."""
    from pipeline.config import Settings

    values, defaults = shown_values(settings), shown_values(Settings.model_construct())
    matters = {
        name: (matter.__doc__ or "").rstrip(".")
        for matter in reversed(Settings.__bases__)
        for name in matter.__annotations__
    }
    return [
        {
            "variable": PREFIX + name.upper(),
            "value": values[name],
            "default": defaults[name],
            "set": name in settings.model_fields_set,
            "about": matters[name],
            "meaning": field.description or "",
        }
        for name, field in Settings.model_fields.items()
    ]


def shown_values(settings: Settings) -> dict[str, Any]:
    """The values by name, plain, and as they may be shown: without passwords and tokens."""
    values = settings.model_dump(mode="json")
    for name in ("database_url", "search_database_url"):
        if values[name] is not None:
            values[name] = shown_url(values[name])
    return values


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Variables that look like settings and are none, with the setting that may have been meant."""
    from pipeline.config import Settings

    known = [PREFIX + name.upper() for name in Settings.model_fields]
    return {
        name: next(iter(get_close_matches(name, known, n=1, cutoff=0.8)), None)
        for name in sorted(environment)
        if name.startswith(PREFIX) and name not in known and name not in _OTHERS
    }


def _shown(value: object) -> str:
    return "unset" if value is None else str(value)
