"""A real PgBouncer in transaction mode before a test's PostgreSQL: Debian's, where it is installed."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from tests.acceptance.node import free_port

REQUIRED = "TEST_PGBOUNCER"
"""Set to "required" where it must be there: a skip is a failure then."""
_SETTINGS = """\
[databases]
* = host={host} port={port} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 20
max_client_conn = 500
log_connections = 0
log_disconnections = 0
"""


def find() -> str:
    """The program; skips the test where there is none."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        if os.environ.get(REQUIRED) == "required":
            raise AssertionError("PgBouncer is not installed")
        pytest.skip("PgBouncer is not installed")
    return found


@contextmanager
def before(url: str) -> Iterator[str]:
    """The URL of the same database through a PgBouncer, for as long as the block lasts."""
    program, server, own = find(), make_url(url), free_port()
    folder = Path(tempfile.mkdtemp(prefix="counterfoil-pgbouncer-"))
    host = server.query.get("host", server.host)
    text = _SETTINGS.format(host=host, port=server.port or 5432, user=server.username, own=own)
    (folder / "pgbouncer.ini").write_text(text)
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
    folder.chmod(0o755)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, str(folder / "pgbouncer.ini")], stderr=log, user=user)
    through = server.set(host="127.0.0.1", port=own, query={}).render_as_string(hide_password=False)
    try:
        _wait(through, folder / "log")
        yield through
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def _wait(url: str, log: Path) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError as error:
            if time.monotonic() > end:
                raise AssertionError(log.read_text()[-2000:]) from error
            time.sleep(0.05)
        else:
            return
