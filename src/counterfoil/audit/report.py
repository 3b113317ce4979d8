"""The report: one HTML file that loads nothing from elsewhere, to be looked at, searched and sent on."""

import html
import os
from importlib import resources
from pathlib import Path

import msgspec

from counterfoil.audit.summary import MEANING, Summary
from counterfoil.audit.workspace import Workspace

MOST = 20_000
"""Findings that the report holds; the plan holds all."""


def write_report(path: Path, summary: Summary, space: Workspace) -> None:
    """Write the report, all of it or nothing; it holds addresses, so it is for this user's eyes only."""
    template = resources.files("counterfoil.audit").joinpath("report.html").read_text(encoding="utf-8")
    data = {
        "summary": summary.as_json(),
        "meaning": MEANING,
        "findings": [{**msgspec.to_builtins(each), "key": each.key} for each in space.findings(MOST)],
    }
    about = summary.about
    title = f"{about.clerk_instance} and {about.stripe_account}"
    text = template.replace("{{title}}", html.escape(title)).replace("{{data}}", _embedded(data))
    unfinished = path.with_name(path.name + ".part")
    with os.fdopen(
        os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write(text)
    unfinished.replace(path)


def _embedded(data: object) -> str:
    """JSON inside a script element: nothing in it can end that element, or begin a comment."""
    text = msgspec.json.encode(data).decode()
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
