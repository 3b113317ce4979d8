"""`GET /v1/users`: order, pages, cursors and filters, with the refusals that Clerk documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from counterfoil.sandbox.clerk import ClerkState
from counterfoil.sandbox.clerk_user import User

Query = Mapping[str, list[str]]

_MATCHED = ("user_id", "email_address", "external_id", "username")
_BOUNDS = ("created_at_before", "created_at_after")
_KNOWN = frozenset(
    {*_MATCHED, *_BOUNDS, "limit", "offset", "order_by", "starting_after", "__clerk_api_version", "banned"}
)
_SORTED = (
    "created_at",
    "updated_at",
    "last_sign_in_at",
    "first_name",
    "last_name",
    "username",
    "email_address",
)


class Refusal(Exception):
    """A request that gets an error body instead of what it asked for."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def _invalid(message: str) -> Refusal:
    return Refusal(422, "form_param_value_invalid", message)


def _number(query: Query, name: str, default: int, low: int, high: int) -> int:
    if name not in query:
        return default
    text = query[name][-1]
    if not text.isdecimal() or not low <= int(text) <= high:
        raise _invalid(f"{name} must be a number from {low} to {high}.")
    return int(text)


def _check(query: Query) -> None:
    for name in query:
        if name not in _KNOWN:
            # Clerk has more filters. One that is silently ignored would make a test pass for the wrong
            # reason.
            raise Refusal(501, "not_in_the_sandbox", f"The sandbox does not know the parameter {name}.")
        if name in _MATCHED and len(query[name]) > 100:
            raise _invalid(f"{name} takes up to 100 values.")


def _matches(user: User, query: Query) -> bool:
    if "created_at_after" in query and user.created_at <= int(query["created_at_after"][-1]):
        return False
    if "created_at_before" in query and user.created_at >= int(query["created_at_before"][-1]):
        return False
    if "banned" in query and user.banned != (query["banned"][-1] == "true"):
        return False
    if "email_address" in query:
        wanted = {value.lower() for value in query["email_address"]}
        if not any(entry.address.lower() in wanted for entry in user.emails):
            return False
    if "username" in query and user.username not in query["username"]:
        return False
    for name, value in (("user_id", user.id), ("external_id", user.external_id)):
        values = query.get(name, [])
        included = {item.lstrip("+ ") for item in values if not item.startswith("-")}
        excluded = {item[1:] for item in values if item.startswith("-")}
        if value in excluded or (included and value not in included):
            return False
    return True


def _few(state: ClerkState, query: Query) -> list[User] | None:
    """The only users who can match, when the filters name them; None when all must be walked."""
    if "user_id" in query and not any(value.startswith("-") for value in query["user_id"]):
        names = [value.lstrip("+ ") for value in query["user_id"]]
        return [state.users[name] for name in dict.fromkeys(names) if name in state.users]
    if "email_address" in query:
        owners = [state.by_email.get(value.lower()) for value in query["email_address"]]
        return [state.users[owner] for owner in dict.fromkeys(owners) if owner is not None]
    return None


def _walk(state: ClerkState, query: Query, key: str, descending: bool) -> Iterator[User]:
    few = _few(state, query)
    if few is None and key in {"created_at", "updated_at"}:
        order = state.by_created if key == "created_at" else state.by_updated
        ids = order.downwards() if descending else order.upwards()
        return (state.users[identifier] for identifier in ids)
    users = list(state.users.values()) if few is None else few
    name = "email" if key == "email_address" else key

    def rank(user: User) -> tuple[bool, int, str, int]:
        value = getattr(user, name)
        number = value if isinstance(value, int) else 0
        return value is not None, number, "" if isinstance(value, int) else str(value), user.serial

    return iter(sorted(users, key=rank, reverse=descending))


def _after(state: ClerkState, query: Query, descending: bool) -> Iterator[User]:
    cursor = query["starting_after"][-1]
    user = state.users.get(cursor)
    if user is not None:
        entry = (user.created_at, user.serial, user.id)
    elif cursor in state.gone and state.settings.deleted_cursor == "continue":
        entry = state.gone[cursor]
    else:
        raise _invalid(f"starting_after names no user: {cursor}.")
    order = state.by_created
    ids = order.downwards(after=entry) if descending else order.upwards(after=entry)
    return (state.users[identifier] for identifier in ids)


def list_users(state: ClerkState, query: Query) -> list[User]:
    """One page, in the order asked for."""
    _check(query)
    limit = _number(query, "limit", 10, 1, 500)
    offset = _number(query, "offset", 0, 0, 10**9)
    # A plus sign sent bare arrives as a space: Clerk wants it as %2B, and takes no sign for ascending too.
    order_by = query.get("order_by", ["-created_at"])[-1]
    descending, key = order_by.startswith("-"), order_by.lstrip("+-")
    if key not in _SORTED:
        raise _invalid(f"order_by cannot be {order_by}.")
    if "starting_after" in query:
        if key != "created_at":
            raise _invalid("starting_after needs the created_at order.")
        if offset:
            raise _invalid("starting_after needs offset 0.")
        users = _after(state, query, descending)
    else:
        users = _walk(state, query, key, descending)
    if any(name in query for name in (*_MATCHED, *_BOUNDS, "banned")):
        users = (user for user in users if _matches(user, query))
    return list(islice(users, offset, offset + limit))


def count_users(state: ClerkState, query: Query) -> int:
    """How many match."""
    _check(query)
    if not any(name in query for name in (*_MATCHED, *_BOUNDS, "banned")):
        return len(state.users)
    return sum(_matches(user, query) for user in state.users.values())
