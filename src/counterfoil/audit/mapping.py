"""The mapping file: what a person knows of whose a customer is."""

import csv
from pathlib import Path

from counterfoil.core.subject import is_user_id
from counterfoil.errors import ConfigurationError

HEAD = ["user", "customer"]
_LIKE = "a line is like user_...,cus_... or, for a user who is to have a new customer, user_...,"
_SHOWN = 60


def read_mapping(path: Path) -> list[tuple[str, str]]:
    """A mapping file: CSV with the columns ``user`` and ``customer``, of which the latter may be empty.

    Raises:
        ConfigurationError: it cannot be read, or a line is not what it must be; which, and why.
    """
    lines: dict[str, int] = {}
    pairs: list[tuple[str, str]] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            for row in rows:
                cells = [cell.strip() for cell in row]
                if not any(cells) or (not pairs and [cell.lower() for cell in cells] == HEAD):
                    continue
                where = f"{path}, line {rows.line_num}"
                user, customer = _pair(where, cells)
                for each in filter(None, (user, customer)):
                    if each in lines:
                        raise ConfigurationError(f"{where}: {each} stands in line {lines[each]} already")
                    lines[each] = rows.line_num
                pairs.append((user, customer))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"{path} cannot be read as CSV ({type(error).__name__})") from None
    return pairs


def _pair(where: str, cells: list[str]) -> tuple[str, str]:
    said = ",".join(cells)[:_SHOWN]
    if len(cells) != len(HEAD):
        raise ConfigurationError(
            f"{where}: {said!r} has {len(cells)} columns, not two separated by a comma; {_LIKE}"
        )
    user, customer = cells
    if not is_user_id(user):
        raise ConfigurationError(f"{where}: {user[:_SHOWN]!r} is no user's id; {_LIKE}")
    if customer and not customer.startswith("cus_"):
        raise ConfigurationError(f"{where}: {customer[:_SHOWN]!r} is no customer's id; {_LIKE}")
    return user, customer
