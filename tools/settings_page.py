"""Write ``docs/reference/settings.md`` from the code: ``python tools/settings_page.py``."""

from pathlib import Path
from typing import Any

import annotated_types
from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from counterfoil.settings import Settings, names

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "settings.md"

_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))
_LONG_HOURS = 48 * 3_600_000
_HEAD = """\
# Settings

<!-- Made by tools/settings_page.py from the code. Change the descriptions there, then run it again. -->

Three places are read, the first that has a setting wins: the environment, `.env` in the working folder,
`counterfoil.toml` in the working folder. They are merged once, at the start. A setting that is missing or
wrong ends the command with exit code 3 and one line for each; no value is ever repeated.

- Every name may also be given as `NAME_FILE`, the path of a file that holds the value (for secrets).
- `counterfoil.toml` uses the names of the third column: `port = 8080`, `intent_ttl = "20h"`.
- A duration is a number and a unit: `500ms`, `10s`, `15m`, `20h`, `90d`.
- A name that begins with `COUNTERFOIL_` and is no setting is an error, so that a slip of the pen is noticed.
- `status`, `show`, `retry`, `undo`, `release` and `db` need no keys: of all settings they use `DATABASE_URL` (or
  `--database`) and `COUNTERFOIL_SCHEMA` alone.

| name | default | in the TOML | also taken | what it is |
| --- | --- | --- | --- | --- |
"""


def duration(milliseconds: int) -> str:
    """A duration as a setting is written: in the largest unit that leaves no rest."""
    for unit, size in _UNITS:
        if milliseconds % size == 0 and not (unit == "d" and milliseconds < _LONG_HOURS):
            return f"{milliseconds // size}{unit}"
    raise AssertionError("every number is a number of milliseconds")


def page() -> str:
    """The whole page."""
    rows = [_row(field, Settings.model_fields[field], each) for field, each in names().items()]
    return _HEAD + "\n".join(rows) + "\n"


def _row(field: str, info: FieldInfo, called: tuple[str, ...]) -> str:
    first, *others = called
    also = ", ".join(f"`{name}`" for name in others)
    return f"| `{first}` | {_default(info)} | `{field}` | {also} | {info.description}{_limits(info)} |"


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "**required**"
    return "unset" if info.default is None else f"`{_shown(info, info.default)}`"


def _shown(info: FieldInfo, value: Any) -> str:
    is_duration = any(isinstance(each, BeforeValidator) for each in info.metadata)
    return duration(value) if is_duration else str(value)


def _limits(info: FieldInfo) -> str:
    if not any(isinstance(each, BeforeValidator) for each in info.metadata):
        return ""
    least = next((each.ge for each in info.metadata if isinstance(each, annotated_types.Ge)), None)
    most = next((each.le for each in info.metadata if isinstance(each, annotated_types.Le)), None)
    said = [f"at least {_shown(info, least)}"] if least is not None else []
    said += [f"at most {_shown(info, most)}"] if most is not None else []
    return f" {', '.join(said).capitalize()}." if said else ""


if __name__ == "__main__":
    PAGE.write_text(page())
