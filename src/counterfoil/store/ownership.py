"""SQLite belongs to one writing process: a lock beside the file, which also says how to reach its holder."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from counterfoil.core.reading import NOT_JSON
from counterfoil.errors import DatabaseBusy, DatabaseUnavailable
from counterfoil.store.engine import parse


class Holder(msgspec.Struct, frozen=True):
    """Who holds the lock: its process, and the local API of a running ``serve`` (both "" for other commands)."""

    pid: int
    address: str = ""
    token: str = ""


def sqlite_path(url: str) -> Path | None:
    """The file of a SQLite URL; ``None`` for other databases, and for one in memory.

    Raises:
        ConfigurationError: it is not a URL of a database that is supported.
    """
    parsed = parse(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        return None
    return Path(parsed.database)


def holder(url: str) -> Holder | None:
    """Who owns the database now, or ``None``."""
    path = sqlite_path(url)
    if path is None or not _lock_path(path).exists():
        return None
    try:
        with Ownership(url):
            return None
    except DatabaseBusy:
        try:
            return msgspec.json.decode(_lock_path(path).read_bytes(), type=Holder)
        except (OSError, *NOT_JSON):
            return Holder(pid=0)


class Ownership:
    """Held from entering to leaving; the operating system takes it from a process that dies."""

    def __init__(self, url: str) -> None:
        self._path = sqlite_path(url)
        self._file: int | None = None

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            DatabaseBusy: another process owns the database.
            DatabaseUnavailable: the lock cannot be made where the database is.
        """
        if self._path is not None:
            path = _lock_path(self._path)
            # Its text holds the local API's token: for this user's eyes only.
            try:
                self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            except OSError as error:
                raise DatabaseUnavailable(f"{path} cannot be made or opened: {error.strerror}") from None
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(self._file)
                self._file = None
                raise DatabaseBusy(
                    f"another process owns {self._path} (its lock is {path.name}): stop it, or give this one "
                    "a database of its own (DATABASE_URL)"
                ) from None
        return self

    def publish(self, address: str, token: str) -> None:
        """Say how to reach us. Raises `DatabaseUnavailable` where that cannot be written."""
        if self._file is not None:
            text = msgspec.json.encode(Holder(os.getpid(), address, token))
            os.ftruncate(self._file, 0)
            try:
                os.pwrite(self._file, text, 0)
            except OSError as error:
                raise DatabaseUnavailable(f"the lock beside the database: {error.strerror}") from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")
