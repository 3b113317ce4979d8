"""Subjects: whom a customer is kept for. The id's prefix tells the kind."""

import re

from counterfoil.errors import BadSubject

_USER_ID = re.compile(r"user_[0-9A-Za-z_-]{1,120}")


def is_user_id(text: str) -> bool:
    """Whether ``text`` can be a Clerk user's id."""
    return _USER_ID.fullmatch(text) is not None


def user_id(text: str) -> str:
    """Return ``text`` if it can be a Clerk user's id.

    Raises:
        BadSubject: it cannot; the message does not repeat the text, for it may be hostile.
    """
    if not is_user_id(text):
        raise BadSubject("not a Clerk user id: it starts with 'user_' and goes on with letters and digits")
    return text
