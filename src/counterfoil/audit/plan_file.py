"""The plan: a file of findings, one a line, with the proposed repairs. A person reads it, may strike lines, and
applies it.

The first line says what it is about. What was done is noted beside it, so that it can be gone on with.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from counterfoil.core.finding import Finding
from counterfoil.core.reading import NOT_JSON, holds_nul
from counterfoil.core.subject import user_id
from counterfoil.errors import BadSubject, ConfigurationError

FORMAT = 1


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan is about: another environment's, or another setting's, is not applied."""

    clerk_instance: str
    stripe_account: str
    livemode: bool
    metadata_key: str
    link_back: str
    """The place and the key, as in ``public stripeCustomerId``."""
    at: int
    """When the audit began, in milliseconds."""
    format: int = FORMAT
    counts: dict[str, int] = {}


class Note(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one line. ``deleted``: how many customers."""

    key: str
    became: str
    """``done``, ``skipped``, ``refused`` or ``person``; ``asked``: it is under way."""
    why: str = ""
    deleted: int = 0


_lines = msgspec.json.Encoder()
_about = msgspec.json.Decoder(dict[str, About])
_finding = msgspec.json.Decoder(Finding)
_note = msgspec.json.Decoder(Note)


def write(path: Path, about: About, found: Iterable[Finding]) -> None:
    """Write a plan, all of it or nothing; it holds addresses, so it is for this user's eyes only."""
    unfinished = path.with_name(path.name + ".part")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(_lines.encode({"counterfoil_plan": about}) + b"\n")
        for each in found:
            file.write(_lines.encode(each) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def read(path: Path) -> tuple[About, Iterator[Finding]]:
    """A plan's head, and its findings one by one.

    Raises:
        ConfigurationError: it cannot be read, or is no plan of this release.
    """
    try:
        with path.open("rb") as file:
            head = _about.decode(file.readline())["counterfoil_plan"]
    except (OSError, *NOT_JSON, KeyError) as error:
        raise ConfigurationError(f"{path} is not a plan of counterfoil audit ({type(error).__name__})") from None
    if head.format != FORMAT:
        raise ConfigurationError(f"{path} is of format {head.format}, this release reads {FORMAT}: audit again")
    return head, _findings(path)


def _findings(path: Path) -> Iterator[Finding]:
    with path.open("rb") as file:
        file.readline()
        for number, line in enumerate(file, 2):
            if line.strip():
                try:
                    yield _checked(line)
                except (*NOT_JSON, BadSubject):
                    raise ConfigurationError(
                        f"{path}: line {number} is not a finding; nothing after it was done"
                    ) from None


def _checked(line: bytes) -> Finding:
    """A line; its subject is one of Clerk's, and its texts can be stored."""
    if holds_nul(line):
        raise msgspec.ValidationError("a text holds a NUL character")
    finding = _finding.decode(line)
    if finding.subject_id is not None:
        user_id(finding.subject_id)
    return finding


def digest(path: Path) -> str:
    """Names a plan by what it says, so that notes about another one are not taken for its own."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


class Notes:
    """What became of a plan's lines: a file beside it, appended to, each batch on disk before the next."""

    def __init__(self, plan: Path) -> None:
        self._path = plan.with_name(f"{plan.name}.{digest(plan)}.done")
        self._kept: dict[str, Note] = {}

    def __enter__(self) -> Self:
        """Raises `ConfigurationError` where another apply of this plan is under way.

        Each counts what it deletes by itself: two would delete more than either may.
        """
        self._file = os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise ConfigurationError("another apply of this plan is under way: wait for it, or end it") from None
        for line in self._path.read_bytes().splitlines():
            try:
                note = _note.decode(line)
            except NOT_JSON:
                continue  # the process was killed in the middle of it
            self._kept[note.key] = note
        self._file.write(b"\n")  # whatever a killed process left unfinished ends here
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def of(self, key: str) -> Note | None:
        """What became of a line, or ``None``."""
        return self._kept.get(key)

    def deleted_for(self, key: str) -> int:
        """Customers that were, or may have been, deleted for a line."""
        note = self.of(key)
        return note.deleted if note is not None else 0

    def all(self) -> Iterable[Note]:
        """All notes."""
        return self._kept.values()

    def deleted(self) -> int:
        """Customers that were, or may have been, deleted."""
        return sum(each.deleted for each in self._kept.values())

    def keep(self, notes: Iterable[Note]) -> None:
        """Note, on disk."""
        for note in notes:
            self._kept[note.key] = note
            self._file.write(_lines.encode(note) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
