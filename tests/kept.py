"""A program for a test that lasts as long as the process that started it, however that ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# Its input is closed when we are gone, and then it cleans up; a word on it says that we do so ourselves.
_KEEPER = """
import shutil, signal, subprocess, sys
folder, user, number, *command = sys.argv[1:]
program = subprocess.Popen(
    command, stdin=subprocess.DEVNULL, stdout=sys.stderr, user=int(user) if user else None, cwd=folder
)
print(program.pid, flush=True)
told = sys.stdin.read()
program.send_signal(int(number))
program.wait()
if not told:
    shutil.rmtree(folder, ignore_errors=True)
"""


class Kept:
    """One program, and who keeps it."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        user: int | None,
        end: signal.Signals,
    ) -> None:
        """Start it.

        Args:
            command: the program and its arguments.
            folder: where it works, and writes its ``log``; removed if we end without `stop`.
            user: whose it is; ``None``: ours.
            end: the signal that ends it in good order.
        """
        self.log = folder / "log"
        with self.log.open("ab") as log:
            self._keeper = subprocess.Popen(
                [sys.executable, "-c", _KEEPER, str(folder), str(user or ""), str(int(end)), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # a signal to our group is for us: the keeper sees that we are gone
            )
        assert self._keeper.stdout is not None
        self.pid = int(self._keeper.stdout.readline())

    def stop(self) -> None:
        """End it, and return when it has ended; once is enough."""
        if self._keeper.returncode is None:
            self._keeper.communicate("stop", timeout=60)

    def kill(self) -> None:
        """End it by SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)
        self.stop()

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-2000:]
