"""What lies in deploy/ fits the product, and what reads it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from counterfoil.settings import names

DEPLOY = Path(__file__).parents[2] / "deploy"
KNOWN = {name for each in names().values() for name in each}


@pytest.mark.parametrize("role", ["receiver", "worker"])
def test_the_compose_file_names_settings_that_there_are(role: str) -> None:
    given = set(yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"][role]["environment"])
    assert given <= KNOWN
    assert {"DATABASE_URL", "COUNTERFOIL_ROLE"} <= given


def test_the_unit_is_one(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd is not installed")
    unit = (DEPLOY / "counterfoil@.service").read_text()
    assert "ExecStart=/usr/local/bin/counterfoil serve" in unit
    copy = tmp_path / "counterfoil@.service"
    copy.write_text(unit.replace("/usr/local/bin/counterfoil", sys.executable))
    found = subprocess.run(
        [program, "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (found.returncode, found.stderr) == (0, "")
