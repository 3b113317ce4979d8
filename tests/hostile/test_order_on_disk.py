"""Write, sync, answer: the order, as the operating system sees it.

strace is the witness: it shows what serve asked the kernel for, in the order in which it asked. A hook in the
interpreter would see neither SQLite's own calls nor the server's, which are no Python. Where strace is not
installed, or may not look, the test is skipped; ``TEST_STRACE=required`` makes that a failure.
"""

import asyncio
import os
import re
import shutil
import signal
import time
from pathlib import Path

import aiohttp
import pytest

from tests.acceptance.standing import Standing, standing_in
from tests.hostile.support import signed
from tests.hostile.test_ground import body_of

CALLS = "write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,sendto,sendmsg"
DELIVERIES = 12


def _unable(why: str) -> None:
    if os.environ.get("TEST_STRACE") == "required":
        pytest.fail(why)
    pytest.skip(why)


async def _traced(standing: Standing, trace: Path) -> asyncio.subprocess.Process:
    """strace on the running serve, once it looks."""
    program = shutil.which("strace")
    if program is None:
        _unable("strace is not installed")
    assert standing.serve.process is not None
    command = [
        "-f",
        "-y",
        "-s",
        "20000",
        "-e",
        f"trace={CALLS}",
        "-o",
        str(trace),
        "-p",
        str(standing.serve.process.pid),
    ]
    made = await asyncio.create_subprocess_exec(str(program), *command, stderr=asyncio.subprocess.PIPE)
    assert made.stderr is not None
    async with asyncio.timeout(20):
        said = (await made.stderr.readline()).decode()
    if "attached" not in said:
        await made.wait()
        _unable(f"strace may not look: {said}")
    return made


def _whole(lines: list[str]) -> list[tuple[str, str]]:
    """Each call twice, as ``("asked", call)`` where it begins and ``("done", call)`` where it ends."""
    found, open_calls = [], {}
    for line in lines:
        thread, _, rest = line.partition(" ")
        rest = rest.strip()
        if rest.endswith("<unfinished ...>"):
            open_calls[thread] = rest
            found.append(("asked", rest))
        elif rest.startswith("<..."):
            found.append(("done", open_calls.pop(thread, "") + rest))
        else:
            found += [("asked", rest), ("done", rest)]
    return found


def _place(calls: list[tuple[str, str]], begin: int, when: str, pattern: str) -> int:
    """The first call from ``begin`` on."""
    for place in range(begin, len(calls)):
        if calls[place][0] == when and re.search(pattern, calls[place][1]):
            return place
    raise AssertionError(f"{pattern} is not there after call {begin}")


async def test_each_delivery_is_written_and_synced_before_it_is_answered(tmp_path: Path) -> None:
    async with standing_in(tmp_path, "--observe") as standing:
        trace = tmp_path / "trace"
        witness = await _traced(standing, trace)
        secret, url = standing.sandbox.settings.svix.secret, f"{standing.serve.url}/webhooks/clerk"
        users = [f"user_order{number:04}" for number in range(DELIVERIES)]
        async with aiohttp.ClientSession() as session:
            for user in users:
                body = body_of(user)
                headers = {name.decode(): value.decode() for name, value in signed(secret, body, int(time.time()))}
                async with session.post(url, data=body, headers=headers) as answer:
                    assert answer.status == 204
        witness.send_signal(signal.SIGINT)
        await witness.wait()
    calls = _whole(trace.read_text(errors="replace").splitlines())
    begin = 0
    for user in users:
        written = _place(calls, begin, "done", rf"^pwrite64\(\d+<[^>]*counterfoil\.db-wal>.*{user}")
        synced = _place(calls, written, "done", r"^(fsync|fdatasync)\(\d+<[^>]*counterfoil\.db-wal>.*= 0")
        answered = _place(calls, begin, "asked", r"^(write|writev|sendto|sendmsg)\(\d+<[^>]*>.*HTTP/1\.1 204")
        assert written < synced < answered, (user, written, synced, answered)
        begin = answered + 1
    answers = [call for when, call in calls if when == "asked" and "HTTP/1.1 204" in call]
    assert len(answers) == DELIVERIES
