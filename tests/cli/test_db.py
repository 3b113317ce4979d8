"""``counterfoil db``: exit codes and what is printed."""

import sqlite3
from contextlib import closing
from pathlib import Path

import counterfoil.store.migrations.versions
from counterfoil.store.ownership import Ownership
from tests.cli.support import command

(_VERSIONS,) = map(Path, counterfoil.store.migrations.versions.__path__)
NEWEST = max(path.name[:4] for path in _VERSIONS.glob("[0-9]*.py"))


def test_upgrade_makes_the_schema_and_check_finds_it_sound(tmp_path: Path) -> None:
    made = command(tmp_path, "db", "upgrade")
    assert made.code == 0, made
    assert f"schema none -> {NEWEST}" in made.out
    again = command(tmp_path, "db", "upgrade")
    assert (again.code, again.out) == (0, f"schema {NEWEST}: up to date\n")
    found = command(tmp_path, "db", "check")
    assert found.code == 0
    assert NEWEST in found.out
    told = command(tmp_path, "db", "check", "--json")
    assert told.code == 0
    assert told.json == {"schema": NEWEST, "needed": NEWEST, "sound": "ok"}


def test_upgrade_takes_the_database_that_is_named(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'other.db'}"
    assert command(tmp_path, "db", "upgrade", "--database", url).code == 0
    assert (tmp_path / "other.db").exists()
    assert not (tmp_path / "counterfoil.db").exists()
    assert command(tmp_path, "db", "check", DATABASE_URL=url).code == 0


def test_check_does_not_make_a_database_that_is_not_there(tmp_path: Path) -> None:
    found = command(tmp_path, "db", "check")
    assert found.code == 5
    assert "does not exist" in found.err
    assert list(tmp_path.iterdir()) == []


def test_check_says_that_a_schema_is_missing(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "counterfoil.db")) as connection:
        connection.execute("CREATE TABLE unrelated (id INTEGER)")
    found = command(tmp_path, "db", "check", "--json")
    assert found.code == 5
    assert found.json["schema"] is None
    assert "counterfoil db upgrade" in found.err


def test_check_says_that_a_file_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "counterfoil.db").write_bytes(b"not a database at all, but long enough to be read as one" * 40)
    found = command(tmp_path, "db", "check")
    assert found.code == 5
    assert "not a database" in found.err


def test_check_finds_a_damaged_page(tmp_path: Path) -> None:
    assert command(tmp_path, "db", "upgrade").code == 0
    file = tmp_path / "counterfoil.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for number in range(2_000):
            connection.execute(
                "INSERT INTO journal (at, kind, what, detail) VALUES (?, 'note', ?, '{}')", (number, "x" * 50)
            )
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")
    content = bytearray(file.read_bytes())
    for place in range(len(content) // 2, len(content) // 2 + 4096 * 6):
        content[place] = 0xA5
    file.write_bytes(content)
    found = command(tmp_path, "db", "check")
    assert found.code == 5
    assert "damaged" in found.err or "malformed" in found.err


def test_upgrade_is_refused_while_another_process_owns_the_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'counterfoil.db'}"
    with Ownership(url):
        found = command(tmp_path, "db", "upgrade")
    assert found.code == 5
    assert "another process owns" in found.err


def test_a_url_that_is_none_is_a_matter_of_settings(tmp_path: Path) -> None:
    for url in ("nonsense", "mysql://localhost/x"):
        found = command(tmp_path, "db", "check", "--database", url)
        assert found.code == 3, (url, found)
        assert "DATABASE_URL" in found.err
