"""A database file belongs to one process."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from counterfoil.errors import ConfigurationError, DatabaseBusy, DatabaseUnavailable
from counterfoil.store.ownership import Holder, Ownership, holder, sqlite_path

HOLD = """
import sys, time
from counterfoil.store.ownership import Ownership
with Ownership(sys.argv[1]) as ownership:
    ownership.publish("http://127.0.0.1:1", "token")
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A file that is not there yet."""
    return f"sqlite:///{tmp_path / 'counterfoil.db'}"


def test_a_second_holder_is_refused_and_the_first_is_named(url: str) -> None:
    with Ownership(url) as ownership:
        ownership.publish("http://127.0.0.1:8787", "secret")
        with pytest.raises(DatabaseBusy, match=r"counterfoil\.db"), Ownership(url):
            pass
        assert holder(url) == Holder(os.getpid(), "http://127.0.0.1:8787", "secret")
    assert holder(url) is None
    with Ownership(url):
        pass


def test_a_holder_that_publishes_nothing_has_no_address(url: str) -> None:
    with Ownership(url):
        assert holder(url) == Holder(pid=0)


def test_a_shorter_text_leaves_nothing_of_a_longer_one(url: str) -> None:
    with Ownership(url) as ownership:
        ownership.publish("http://127.0.0.1:8787", "long" * 50)
        ownership.publish("", "")
        assert holder(url) == Holder(os.getpid())


def test_the_lock_is_for_this_user_only_and_its_token_is_gone_afterwards(url: str, tmp_path: Path) -> None:
    lock = tmp_path / "counterfoil.db.lock"
    with Ownership(url) as ownership:
        ownership.publish("http://127.0.0.1:8787", "secret")
        assert stat.S_IMODE(lock.stat().st_mode) == 0o600
        assert "secret" in lock.read_text()
    assert lock.read_text() == ""


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with (
        pytest.raises(DatabaseUnavailable, match="No such file"),
        Ownership(f"sqlite:///{tmp_path / 'no' / 'x.db'}"),
    ):
        pass


def test_asking_who_holds_it_makes_no_file(url: str, tmp_path: Path) -> None:
    assert holder(url) is None
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_dies_holds_nothing_any_more(url: str) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, url], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            assert holder(url) == Holder(other.pid, "http://127.0.0.1:1", "token")
            with pytest.raises(DatabaseBusy), Ownership(url):
                pass
        finally:
            other.send_signal(signal.SIGKILL)
            other.wait(10)
    assert holder(url) is None
    with Ownership(url):
        pass


@pytest.mark.parametrize("other", ["sqlite://", "sqlite:///:memory:", "postgresql://host/name"])
def test_other_databases_have_no_file_to_own(other: str) -> None:
    assert sqlite_path(other) is None
    with Ownership(other), Ownership(other) as again:
        again.publish("http://127.0.0.1:8787", "secret")
    assert holder(other) is None


@pytest.mark.parametrize("wrong", ["nonsense", "", "postgresql://user:hunter2@host:port/name"])
def test_a_url_that_is_none_is_said_without_repeating_it(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL") as error:
        sqlite_path(wrong)
    assert "hunter2" not in str(error.value)
