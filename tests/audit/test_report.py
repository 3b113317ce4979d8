"""The report, in a real browser: it draws, it searches, it loads nothing, and nothing in it is markup."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from counterfoil.audit.plan_file import About
from counterfoil.audit.report import write_report
from counterfoil.audit.summary import summarise
from counterfoil.audit.workspace import Workspace
from counterfoil.core.finding import Finding, Kind, Repair

HOSTILE = "</script><img src=x onerror=document.title='owned'><!--"


def written(folder: Path) -> Path:
    about = About(
        clerk_instance="ins_1<b>", stripe_account="acct_1", livemode=False, metadata_key="k", link_back="p k", at=0
    )
    found = [
        Finding(
            kind=Kind.MISSING, subject_id="user_2abc", repair=Repair.CREATE, why="no customer names this user"
        ),
        Finding(
            kind=Kind.STALE, subject_id="user_2def", customer_id="cus_1", why=HOSTILE, evidence={"name": HOSTILE}
        ),
    ]
    path = folder / "report.html"
    with Workspace(None) as space:
        space.begin({}, lambda user: user.link_back, 0, 0)
        space.keep_findings(found)
        write_report(path, summarise(space, about), space)
    return path


def drawn(path: Path) -> str:
    """The page's own document, after its script has run."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        if os.environ.get("TEST_BROWSER") == "required":
            pytest.fail("there is no Chromium, and it is required here")
        pytest.skip("no Chromium on this machine")
    profile = f"--user-data-dir={path.parent / 'profile'}"
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom", profile)
    done = subprocess.run([browser, *flags, path.as_uri()], capture_output=True, text=True, timeout=90, check=True)
    return done.stdout


def test_a_browser_draws_the_report_and_takes_nothing_in_it_for_markup(tmp_path: Path) -> None:
    page = drawn(written(tmp_path))
    assert "<title>Audit of ins_1&lt;b&gt; and acct_1</title>" in page
    assert "owned" not in page.split("<title>")[1].split("</title>")[0]
    assert "<img" not in page
    assert page.count("<code>user_2abc</code>") == 1
    assert page.count("<code>user_2def</code>") == 1
    assert '<div class="dim" id="count" aria-live="polite">2 findings</div>' in page


def test_the_report_names_no_address_and_ends_its_script_nowhere_else(tmp_path: Path) -> None:
    text = written(tmp_path).read_text()
    assert "http://" not in text
    assert "https://" not in text
    assert text.count("</script>") == 2
    assert "default-src 'none'" in text
    assert (tmp_path / "report.html").stat().st_mode & 0o777 == 0o600
