"""``counterfoil check``: is everything set up; one line each, with what to do."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
import typer

from counterfoil.billing.stripe import is_live
from counterfoil.clerk.api import AiohttpTransport
from counterfoil.clerk.webhook import Verifier
from counterfoil.cli.output import Exit, JsonOption, explained, plain, print_json, screen
from counterfoil.engine import pin
from counterfoil.engine.alerts import Sender
from counterfoil.engine.clock import SystemClock
from counterfoil.errors import AlertRefused, CounterfoilError, DatabaseUnavailable, KeyRefused, UpstreamError
from counterfoil.settings import Settings, load
from counterfoil.store import environment
from counterfoil.store.database import InlineDatabase
from counterfoil.store.ownership import holder, sqlite_path
from counterfoil.store.server import look
from counterfoil.store.upgrade import versions
from counterfoil.upstream.gate import LIVE
from counterfoil.wiring import Outside, Upstreams, connect

Mark = Literal["ok", "warning", "failed"]
_STYLES: dict[Mark, str] = {"ok": "green", "warning": "yellow", "failed": "bold red"}
_SKEW = 30_000
"""Milliseconds: the signature's tolerance is five minutes; a clock this far off is on its way there."""
_PASSING = ("/tmp", "/var/tmp", "/dev/shm", "/run")  # noqa: S108 - compared, not used
_DISK = 1_000_000_000


class Finding(msgspec.Struct, frozen=True):
    """One line: what was looked at, how it is, and what to do where it is not well."""

    name: str
    mark: Mark
    text: str


def check(
    alert: Annotated[bool, typer.Option("--alert", help="Send a test alert to COUNTERFOIL_ALERT_URL.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check keys, reachability, environment, clocks and database: one line each, with what to do."""
    with explained():
        findings = asyncio.run(_check(load(), alert=alert))
    if as_json:
        print_json(findings)
    else:
        for each in findings:
            text = plain(each.text)
            screen.print(
                f"[{_STYLES[each.mark]}]{each.mark:>7}[/]  [dim]{each.name:<14}[/] {text}", soft_wrap=True
            )
    if any(each.mark == "failed" for each in findings):
        raise typer.Exit(Exit.FAILED)


async def _check(settings: Settings, *, alert: bool) -> list[Finding]:
    transport = AiohttpTransport()
    database = None
    findings = [_secrets(settings), _modes(settings), _deletion(settings)]
    try:
        path = sqlite_path(settings.database_url)
        findings += [_disk(path)] if path is not None else []
        if path is None or path.exists():
            database = InlineDatabase(settings.database_url, settings.database_schema)
        outside = Outside(database or InlineDatabase("sqlite://"), SystemClock(), transport)
        upstreams = connect(settings, outside, lambda *_: None)
        findings += await _reach(settings, upstreams)
        state = await _database(settings, database)
        findings += await _environment(settings, upstreams, database if state.mark == "ok" else None)
        findings += await _alerts(settings, transport, send=alert)
        findings.append(state)
        await upstreams.stripe.close()
    finally:
        await transport.close()
        if database is not None:
            await database.close()
    return findings


def _secrets(settings: Settings) -> Finding:
    try:
        Verifier(settings.signing_secrets())
    except CounterfoilError as error:
        return Finding("signing secret", "failed", str(error))
    count = len(settings.signing_secrets())
    return Finding(
        "signing secret", "ok", f"{count} {'secret has' if count == 1 else 'secrets have'} the right shape"
    )


def _modes(settings: Settings) -> Finding:
    """A live key beside a test key is nearly always a mistake."""
    clerk = settings.clerk_secret_key.get_secret_value()
    stripe_live = is_live(settings.stripe_secret_key.get_secret_value())
    if not clerk.startswith(("sk_live_", "sk_test_")):
        return Finding("keys", "failed", "CLERK_SECRET_KEY must begin with sk_live_ or sk_test_")
    if stripe_live is None:
        return Finding(
            "keys", "warning", "STRIPE_SECRET_KEY does not tell its mode (sk_live_, rk_live_, sk_test_, rk_test_)"
        )
    clerk_live = clerk.startswith("sk_live_")
    if clerk_live != stripe_live:
        names = {True: "live", False: "test"}
        text = (
            f"Clerk's key is {names[clerk_live]}, Stripe's is {names[stripe_live]}: are they meant for each other?"
        )
        return Finding("keys", "warning", text)
    return Finding("keys", "ok", "both are of " + ("live mode" if stripe_live else "test mode"))


def _deletion(settings: Settings) -> Finding:
    """What becomes of deleted users' customers, and what a restricted key needs for it."""
    chosen = f"customers of deleted users: {settings.on_deletion}; still subscribed: {settings.if_subscribed}"
    if settings.on_deletion == "keep":
        return Finding("deletion", "ok", "customers of deleted users are kept")
    ends = settings.if_subscribed == "cancel_at_period_end"
    if ends or (settings.on_deletion == "archive" and settings.if_subscribed == "delete"):
        return Finding("deletion", "ok", f"{chosen} (a restricted Stripe key needs Subscriptions: write)")
    if settings.if_subscribed == "hold":
        return Finding("deletion", "ok", f"{chosen} (a restricted Stripe key needs Subscriptions: read)")
    return Finding("deletion", "ok", chosen)


async def _reach(settings: Settings, upstreams: Upstreams) -> list[Finding]:
    clerk, stripe = upstreams.clerk, upstreams.stripe

    async def users() -> str:
        return f"reachable at {settings.clerk_api_url}, {await clerk.count(LIVE)} users"

    async def customers() -> str:
        await stripe.customers(LIVE, 0, None)
        return f"reachable at {settings.stripe_api_base or 'https://api.stripe.com'}, customers can be listed"

    findings = [await _tried("Clerk", users), await _tried("Stripe", customers)]
    if findings[1].mark == "ok":
        # `offset` is the most that Stripe's clock can be ahead; the date has whole seconds.
        skew = stripe.offset
        text = f"this machine's clock is within {abs(skew) / 1000:.0f} s of Stripe's"
        if abs(skew) > _SKEW:
            hint = "set it (NTP): deliveries are refused when it is five minutes off"
            findings.append(Finding("clock", "failed" if abs(skew) > 240_000 else "warning", f"{text}: {hint}"))
        else:
            findings.append(Finding("clock", "ok", text))
    return findings


async def _tried(name: str, call: Callable[[], Awaitable[str]]) -> Finding:
    try:
        return Finding(name, "ok", await call())
    except KeyRefused as error:
        what = (
            "lacks a permission (Customers: write is needed)" if error.status == 403 else "is wrong or was rolled"
        )
        return Finding(name, "failed", f"the key {what}: {error}")
    except UpstreamError as error:
        return Finding(name, "failed", f"no good answer: {error}. Check the address and the network.")


async def _environment(settings: Settings, upstreams: Upstreams, database: InlineDatabase | None) -> list[Finding]:
    try:
        found = await pin.ask(upstreams.clerk, upstreams.stripe, settings.stripe_secret_key.get_secret_value())
    except CounterfoilError as error:
        return [Finding("environment", "failed", str(error))]
    findings = [Finding("environment", "ok", found.sentence())]
    if found.stripe_account == "unknown":
        text = "the key may not read the account: it is recognised by its mode alone"
        findings.append(Finding("account", "warning", text))
    if database is None:
        return findings
    try:
        recalled = pin.recall(await database.read(environment.load), settings.metadata_key)
        if recalled is not None:
            pin.compare(recalled[0], found)
            findings.append(Finding("pinned", "ok", "the database belongs to this environment"))
    except CounterfoilError as error:
        findings.append(Finding("pinned", "failed", str(error)))
    return findings


async def _alerts(settings: Settings, transport: AiohttpTransport, *, send: bool) -> list[Finding]:
    """Where alerts go. Only the host is named: the rest of the address is a secret."""
    if settings.alert_url is None:
        text = "COUNTERFOIL_ALERT_URL is not set: there is nobody to send it to"
        return [Finding("alerts", "failed", text)] if send else []
    parts = urlsplit(settings.alert_url.get_secret_value())
    if send:
        try:
            sender = Sender(transport, parts.geturl(), "none: this is a test")
            await sender.send("a test alert: all is well.", SystemClock().now(), alert="test", state="raised")
        except AlertRefused as error:
            return [Finding("alerts", "failed", f"{parts.hostname} did not take the test alert: {error}")]
        return [Finding("alerts", "ok", f"{parts.hostname} has taken the test alert")]
    if parts.scheme == "http" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
        return [Finding("alerts", "warning", f"they go to {parts.hostname} unencrypted: use https")]
    return [Finding("alerts", "ok", f"they go to {parts.hostname} (try it: --alert)")]


async def _database(settings: Settings, database: InlineDatabase | None) -> Finding:
    """Whether it can be written, and whether its schema is this release's."""
    if database is None:
        return Finding("database", "ok", "not there yet: serve makes it")
    try:
        server = await database.read(look)
        await database.write(lambda _: None)  # a standby, or a file that may only be read, refuses to begin
        now, needed = await database.read(versions)
    except DatabaseUnavailable as error:
        return Finding("database", "failed", f"{error}: check DATABASE_URL, the server and the permissions")
    running = holder(settings.database_url)
    where = f", in use by process {running.pid}" if running is not None else ""
    if server is not None:
        where = f", PostgreSQL {server.version}, can be written, synchronous_commit {server.synchronous_commit}"
    if server is not None and not server.fsync:
        text = "the server runs with fsync off: what was accepted may be lost with it"
        return Finding("database", "warning", text + where)
    if now != needed:
        text = f"schema {now or 'none'}, this release needs {needed}: serve brings it up to date"
        return Finding("database", "warning", text + where)
    return Finding("database", "ok", f"schema {now} is this release's{where}")


def _disk(path: Path) -> Finding:
    """Whether the database's place looks lasting, writable and large enough."""
    folder = path.resolve().parent
    if not folder.is_dir():
        return Finding("disk", "failed", f"{folder} does not exist: make it, or set DATABASE_URL")
    free = shutil.disk_usage(folder).free
    if free < _DISK:
        return Finding("disk", "warning", f"{folder} has {free // 1_000_000} MB left: a gigabyte is a good deal")
    kind = _file_system(folder)
    if str(folder).startswith(_PASSING) or kind in {"tmpfs", "overlay", "ramfs"}:
        text = f"{folder} ({kind or 'temporary'}) may not outlive a restart: put the database on a lasting volume"
        return Finding("disk", "warning", text + " (DATABASE_URL)")
    if kind in {"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs"}:
        return Finding(
            "disk", "failed", f"{folder} is on {kind}: SQLite's locks are not safe there; use a local disk"
        )
    return Finding("disk", "ok", f"{folder} looks lasting ({kind or 'local'}, {free // 1_000_000_000} GB free)")


def _file_system(folder: Path) -> str:
    """The file system's type, from the mount table; "" where there is none to read."""
    try:
        lines = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return ""
    best, kind = "", ""
    for line in lines:
        parts = line.split(" ")
        place = parts[1] if len(parts) > 2 else ""
        inside = place == "/" or folder == Path(place) or Path(place) in folder.parents
        if inside and len(place) >= len(best):
            best, kind = place, parts[2]
    return kind
