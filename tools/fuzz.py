"""Coverage-guided fuzzing: ``python -m tools.fuzz [--runs N]``, with atheris.

The instrumented code is ours; what is beneath it in C (the decoder, HMAC) is reached, not guided. Each target
takes bytes and may raise our own errors, nothing else. An input that breaks one is written to ``crash-...`` in the
working folder, and replayed by naming it: ``python -m tools.fuzz --target delivery crash-...``.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

try:
    import atheris  # type: ignore[import-untyped]
except ImportError:  # there is no wheel for every machine
    atheris = None

RUNS = 20_000
SECONDS = 20
"""For one target at most."""
_NOW = 1_790_000_000_000
_SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"
_SEEDS = {
    "headers": [b"msg_1\n1790000000\nv1,AAAA v1a,BBBB", b"msg_1\n1790000000\nv1, v1,"],
    "delivery": [
        b'{"type":"user.created","data":{"id":"user_a","created_at":1,"updated_at":2,"first_name":"A",'
        b'"primary_email_address_id":"i","email_addresses":[{"id":"i","email_address":"a@b.c"}],'
        b'"public_metadata":{"stripeCustomerId":"cus_1"}},"timestamp":1,"instance_id":"ins_1"}',
        b'{"type":"user.deleted","data":{"id":"user_a","deleted":true}}',
    ],
    "page": [b'[{"id":"user_a"},{"id":"user_b","m":{"a":[[["}"]]]}}]'],
    "errands": [b'[{"subject_id":"user_a","item":"missing","customers":[]}]'],
    "prefer": [b"respond-async, wait=5"],
}


def _targets() -> dict[str, Callable[[bytes], None]]:
    """What is fuzzed; imported here, for atheris instruments what is imported under it."""
    import msgspec

    from counterfoil.clerk.body import BodyReader, View
    from counterfoil.clerk.webhook import Decoder, Verifier
    from counterfoil.core.reading import NOT_JSON, elements
    from counterfoil.errors import BadSubject, WebhookRefused, WebhookUnreadable
    from counterfoil.store import orders
    from counterfoil.web.api import opens, patience

    verifier = Verifier([_SECRET])
    view = View(mirror=frozenset({"email", "name", "phone"}))
    decoder = Decoder(instance_id="ins_1", reader=BodyReader("stripeCustomerId", view))

    def headers(data: bytes) -> None:
        parts = data.decode("latin-1").split("\n")
        names = (
            "svix-id",
            "svix-timestamp",
            "svix-signature",
            "webhook-id",
            "webhook-timestamp",
            "webhook-signature",
        )
        try:
            verifier.verify(dict(zip(names, parts, strict=False)), data, _NOW)
        except WebhookRefused:
            return
        raise AssertionError("taken without the secret")

    def delivery(data: bytes) -> None:
        try:
            news = decoder.decode(data, "msg_1")
        except WebhookUnreadable:
            return
        assert b"\\u0000" not in msgspec.json.encode(news) or b"\\\\u0000" in msgspec.json.encode(news)

    def page(data: bytes) -> None:
        try:
            known = json.loads(data)
        except (ValueError, RecursionError):
            elements(data)
            return
        if isinstance(known, list):
            assert [json.loads(each) for each in elements(data)] == known

    def errands(data: bytes) -> None:
        try:
            orders.decode(data)
        except (*NOT_JSON, BadSubject):
            return

    def prefer(data: bytes) -> None:
        text = data.decode("latin-1")
        assert 0 <= patience(text) <= 10
        assert not opens(text, ["a-token-that-nobody-knows-" + "x" * 40])

    return {"headers": headers, "delivery": delivery, "page": page, "errands": errands, "prefer": prefer}


def _fuzz(name: str, runs: int, files: list[str]) -> None:
    """One target, in this process, which ends with it."""
    with atheris.instrument_imports(include=["counterfoil"]):
        target = _targets()[name]
    folder = Path(tempfile.mkdtemp(prefix="counterfoil-fuzz-"))
    for number, seed in enumerate(_SEEDS[name]):
        (folder / str(number)).write_bytes(seed)
    files = files or [str(folder)]
    limits = [f"-runs={runs}", f"-max_total_time={SECONDS}", "-max_len=4096", "-timeout=10", "-rss_limit_mb=1024"]
    atheris.Setup([sys.argv[0], *limits, "-verbosity=0", *files], target)
    atheris.Fuzz()


def main() -> None:
    """Fuzz each target in a process of its own."""
    parser = argparse.ArgumentParser(description="Coverage-guided fuzzing.")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--target", choices=sorted(_SEEDS))
    parser.add_argument("files", nargs="*")
    wanted = parser.parse_args()
    if atheris is None:
        sys.exit("atheris is not installed: there is no wheel of it for this machine")
    if wanted.target:
        _fuzz(wanted.target, wanted.runs, wanted.files)
        return
    for name in _SEEDS:
        began = time.monotonic()
        command = [sys.executable, "-m", "tools.fuzz", "--runs", str(wanted.runs), "--target", name]
        if subprocess.run(command, check=False).returncode:
            sys.exit(f"{name}: broken, see above")
        print(f"{name}: {time.monotonic() - began:.0f} s, nothing found", flush=True)


if __name__ == "__main__":
    main()
