"""Settings: the environment, ``.env``, then ``counterfoil.toml``. Merged once, checked once, frozen.

Every setting may also be given as ``NAME_FILE``, the path of a file that holds it.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from dotenv import dotenv_values
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from counterfoil.errors import ConfigurationError
from counterfoil.setting_kinds import Address, Domains, Duration, Function, Key, Mirror, Pair, Rate, Tokens, parts

TOML = "counterfoil.toml"
DOTENV = ".env"
_OF_THE_CLIENT = {"COUNTERFOIL_URL"}
"""Read by `counterfoil.client` in the app's process, which may share our environment."""


_UNUSED: dict[str, list[str]] = {
    "worker": ["clerk_webhook_signing_secret"],
    "receiver": ["clerk_secret_key", "stripe_secret_key"],
}


def _named(*names: str) -> Any:
    return AliasChoices(*names)


class Settings(BaseModel):
    """All settings; the descriptions are the reference."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clerk_secret_key: SecretStr = Field(
        validation_alias=_named("CLERK_SECRET_KEY"),
        description="Clerk's secret key (sk_test_... or sk_live_...).",
    )
    clerk_webhook_signing_secret: SecretStr = Field(
        validation_alias=_named(
            "CLERK_WEBHOOK_SIGNING_SECRET", "SIGNING_SECRET", "CLERK_WEBHOOK_SECRET", "WEBHOOK_SECRET"
        ),
        description="The webhook endpoint's signing secret (whsec_...); several, with commas, during a rotation.",
    )
    clerk_api_url: str = Field(
        "https://api.clerk.com",
        validation_alias=_named("CLERK_API_URL"),
        pattern=r"^https?://",
        description="Where Clerk's Backend API is, without /v1.",
    )
    stripe_secret_key: SecretStr = Field(
        validation_alias=_named("STRIPE_SECRET_KEY", "STRIPE_API_KEY"),
        description="A secret key, or better a restricted one (rk_...), of the Stripe account.",
    )
    stripe_api_base: str | None = Field(
        None,
        validation_alias=_named("STRIPE_API_BASE"),
        pattern=r"^https?://",
        description="Where Stripe's API is; unset: Stripe's own address.",
    )
    database_url: str = Field(
        "sqlite:///counterfoil.db",
        validation_alias=_named("DATABASE_URL"),
        description="The database: sqlite:///path, or postgresql://user:password@host/name.",
    )
    database_schema: str = Field(
        "counterfoil",
        validation_alias=_named("COUNTERFOIL_SCHEMA"),
        pattern=r"^[a-z_][a-z0-9_]{0,62}$",
        description="PostgreSQL: the schema that holds all tables; made where it is missing.",
    )
    listen_url: SecretStr | None = Field(
        None,
        validation_alias=_named("COUNTERFOIL_LISTEN_URL"),
        description="PostgreSQL behind PgBouncer: a direct way to the same database, to be woken at once. Unset: "
        "DATABASE_URL; where that cannot wake, workers look every second.",
    )
    role: Literal["all", "receiver", "worker"] = Field(
        "all",
        validation_alias=_named("COUNTERFOIL_ROLE"),
        description="PostgreSQL: what this node does. receiver takes deliveries and answers apps, worker does the "
        "rest, all does both.",
    )
    host: str = Field(
        "127.0.0.1",
        validation_alias=_named("COUNTERFOIL_HOST"),
        description="The address that serve listens on; 0.0.0.0 for all.",
    )
    port: int = Field(
        8787,
        validation_alias=_named("COUNTERFOIL_PORT", "PORT"),
        ge=0,
        le=65_535,
        description="The port of serve.",
    )
    webhook_path: str = Field(
        "/webhooks/clerk",
        validation_alias=_named("COUNTERFOIL_WEBHOOK_PATH"),
        pattern=r"^/[A-Za-z0-9_./-]{1,200}$",
        description="Where deliveries are received.",
    )
    metadata_key: Key = Field(
        "clerkUserId",
        validation_alias=_named("COUNTERFOIL_METADATA_KEY"),
        description="The key of a customer's metadata that holds the user's id. Pinned at the first start.",
    )
    link_back_key: Key = Field(
        "stripeCustomerId",
        validation_alias=_named("COUNTERFOIL_LINK_BACK_KEY"),
        description="The key of the user's metadata that holds the customer's id.",
    )
    link_back: Literal["public", "private", "off"] = Field(
        "public",
        validation_alias=_named("COUNTERFOIL_LINK_BACK"),
        description="Which of the user's metadata gets the customer's id: public, private, or off for neither.",
    )
    create: Literal["on_created", "on_verified_email", "on_demand"] = Field(
        "on_created",
        validation_alias=_named("COUNTERFOIL_CREATE"),
        description="When a user gets a customer: on_created, on_verified_email (once the primary address is "
        "verified) or on_demand (only when your app asked).",
    )
    only_domains: Domains | None = Field(
        None,
        validation_alias=_named("COUNTERFOIL_ONLY_DOMAINS"),
        description="Only users whose primary address is of one of these domains get a customer: "
        "acme.com,*.acme.org (*. for subdomains).",
    )
    only_metadata: Pair | None = Field(
        None,
        validation_alias=_named("COUNTERFOIL_ONLY_METADATA"),
        description="Only users with this value in their public metadata get a customer: plan=pro.",
    )
    eligible: Function | None = Field(
        None,
        validation_alias=_named("COUNTERFOIL_ELIGIBLE"),
        description="Only users for whom this function of yours returns True get a customer: "
        "package.module:function.",
    )
    no_email: Literal["wait", "create"] = Field(
        "wait",
        validation_alias=_named("COUNTERFOIL_NO_EMAIL"),
        description="A user without an email address: wait for one, or create a customer without.",
    )
    mirror: Mirror = Field(
        "email,name",
        validation_alias=_named("COUNTERFOIL_MIRROR"),
        description="What is kept in step: some of email,name,phone.",
    )
    mapping: Function | None = Field(
        None,
        validation_alias=_named("COUNTERFOIL_MAPPING"),
        description="A function of yours that says what is kept in step, in place of COUNTERFOIL_MIRROR: "
        "package.module:function.",
    )
    adopt: Literal["metadata", "verified_email", "never"] = Field(
        "metadata",
        validation_alias=_named("COUNTERFOIL_ADOPT"),
        description="Which customers that were there before may become a user's: those that Clerk's metadata "
        "names (metadata), also the only one with the user's verified address (verified_email), or never.",
    )
    stripe_rate: Rate | None = Field(
        None,
        validation_alias=_named("COUNTERFOIL_STRIPE_RATE"),
        description="Calls a second to Stripe; unset: 80 in live mode, 20 in test mode.",
    )
    stripe_endpoint_rate: Rate = Field(
        20, validation_alias=_named("COUNTERFOIL_STRIPE_ENDPOINT_RATE"), description="The same, for each endpoint."
    )
    clerk_rate: Rate | None = Field(
        None,
        validation_alias=_named("COUNTERFOIL_CLERK_RATE"),
        description="Calls to Clerk a second; unset: 80 for a production instance, 8 for a development one.",
    )
    intent_ttl: Duration = Field(
        20 * 3_600_000,
        validation_alias=_named("COUNTERFOIL_INTENT_TTL"),
        ge=60_000,
        le=22 * 3_600_000,
        description="How long a create may be sent again under its key. Stripe keeps keys for 24 h at least.",
    )
    quiet: Duration = Field(
        10_000,
        validation_alias=_named("COUNTERFOIL_QUIET"),
        ge=1_000,
        description="How long after its sending a create may still take effect unseen.",
    )
    on_deletion: Literal["delete", "archive", "keep"] = Field(
        "delete",
        validation_alias=_named("COUNTERFOIL_ON_DELETION"),
        description="What becomes of a deleted user's customer: delete, archive (our mark) or keep.",
    )
    deletion_grace: Duration = Field(
        0,
        validation_alias=_named("COUNTERFOIL_DELETION_GRACE"),
        description="How long a removal waits after the deletion, as 7d; 0s: not at all.",
    )
    if_subscribed: Literal["delete", "hold", "cancel_at_period_end"] = Field(
        "delete",
        validation_alias=_named("COUNTERFOIL_IF_SUBSCRIBED"),
        description="If it is still subscribed: delete (billing stops at once), hold or cancel_at_period_end.",
    )
    deletion_breaker: int = Field(
        100,
        validation_alias=_named("COUNTERFOIL_DELETION_BREAKER"),
        ge=0,
        description="More deletions than this within an hour hold all removals; 0: no number does.",
    )
    journal_keep: Duration = Field(
        90 * 86_400_000,
        validation_alias=_named("COUNTERFOIL_JOURNAL_KEEP"),
        ge=3_600_000,
        description="How long the journal is kept.",
    )
    api_token: Tokens | None = Field(
        None,
        validation_alias=_named("COUNTERFOIL_API_TOKEN"),
        description=(
            "What an app shows to ask for a customer (Authorization: Bearer ...), 16 characters at least; "
            "several, with commas, during a rotation. Unset: that API is shut."
        ),
    )
    alert_url: Address | None = Field(
        None,
        validation_alias=_named("COUNTERFOIL_ALERT_URL"),
        description=(
            "Where alerts are posted as JSON, which Slack understands too (https://...). A secret. Unset: nowhere."
        ),
    )
    alert_after: Duration = Field(
        15 * 60_000,
        validation_alias=_named("COUNTERFOIL_ALERT_AFTER"),
        ge=60_000,
        description="For how long a link may be unsettled before an alert tells so.",
    )
    log_level: str = Field(
        "info",
        validation_alias=_named("COUNTERFOIL_LOG_LEVEL"),
        pattern=r"^(debug|info|warning|error)$",
        description="debug, info, warning or error.",
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.role != "all" and self.database_url.startswith("sqlite"):
            raise ValueError(
                f"COUNTERFOIL_ROLE={self.role} needs PostgreSQL (DATABASE_URL): a SQLite database belongs to one "
                "process, which does all"
            )
        if self.mapping is not None and "mirror" in self.model_fields_set:
            raise ValueError("set COUNTERFOIL_MAPPING or COUNTERFOIL_MIRROR, not both: the mapping decides alone")
        if self.adopt == "verified_email" and self.mapping is None and "email" not in self.mirror.split(","):
            raise ValueError("COUNTERFOIL_ADOPT=verified_email needs email in COUNTERFOIL_MIRROR")
        return self

    def signing_secrets(self) -> list[str]:
        """The signing secrets, one by one."""
        return parts(self.clerk_webhook_signing_secret)

    def api_tokens(self) -> list[str]:
        """The tokens of the API for apps, one by one; none: it is shut."""
        return parts(self.api_token) if self.api_token is not None else []


def names() -> dict[str, tuple[str, ...]]:
    """Each setting's names in the environment, the first being the one to use."""
    return {
        field: tuple(str(choice) for choice in info.validation_alias.choices)
        for field, info in Settings.model_fields.items()
        if isinstance(info.validation_alias, AliasChoices)
    }


def load(
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
    *,
    receives: bool = True,
    role: str | None = None,
) -> Settings:
    """Merge and check all settings.

    Args:
        environ: the environment; ``None``: the process's own.
        folder: where ``.env`` and ``counterfoil.toml`` are; ``None``: the working folder.
        receives: deliveries are to be verified; otherwise no signing secret is needed.
        role: goes before COUNTERFOIL_ROLE; ``None``: nothing was said.

    Raises:
        ConfigurationError: one line for each setting that is missing or wrong. No value is repeated.
    """
    merged = _merged(environ, folder)
    if role is not None:
        merged["COUNTERFOIL_ROLE"] = role
    # Each role is asked for the secrets that it uses, and for no other.
    unused = (
        ["clerk_webhook_signing_secret"] if not receives else _UNUSED.get(str(merged.get("COUNTERFOIL_ROLE")), [])
    )
    for field in unused:
        merged.setdefault(names()[field][0], "")
    try:
        return Settings(**merged)
    except ValidationError as error:
        lines = [_explained(problem) for problem in error.errors(include_input=False, include_url=False)]
        raise ConfigurationError("\n".join(lines)) from None


def database_url(environ: Mapping[str, str] | None = None, folder: Path | None = None) -> str:
    """``DATABASE_URL`` alone, for commands that need no keys."""
    return _alone("database_url", environ, folder)


def database_schema(environ: Mapping[str, str] | None = None, folder: Path | None = None) -> str:
    """``COUNTERFOIL_SCHEMA`` alone, for commands that need no keys; not checked."""
    return _alone("database_schema", environ, folder)


def _alone(field: str, environ: Mapping[str, str] | None, folder: Path | None) -> str:
    return str(_merged(environ, folder).get(names()[field][0], Settings.model_fields[field].default))


def _merged(environ: Mapping[str, str] | None, folder: Path | None) -> dict[str, Any]:
    environ = os.environ if environ is None else environ
    folder = folder or Path()
    return {**_from_toml(folder / TOML), **_known(_from_dotenv(folder / DOTENV)), **_known(environ)}


def _from_dotenv(path: Path) -> dict[str, str]:
    try:
        return {name: value for name, value in dotenv_values(path).items() if value is not None}
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(f"{path.name} is not a file of settings that can be read") from None


def _known(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment's part that is ours, each setting under its first name."""
    found: dict[str, str] = {}
    for first, *others in names().values():
        for name in (first, *others):
            if environ.get(name):
                found[first] = environ[name]
                break
            if environ.get(f"{name}_FILE"):
                found[first] = _read(name, Path(environ[f"{name}_FILE"]))
                break
    allowed = {name for each in names().values() for name in each} | _OF_THE_CLIENT
    for name in environ:
        bare = name.removesuffix("_FILE")
        if name.startswith("COUNTERFOIL_") and bare not in allowed:
            raise ConfigurationError(f"{name} is not a setting{_similar(bare, allowed)}")
    return found


def _read(name: str, path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, ValueError) as error:  # no UTF-8, or no path
        raise ConfigurationError(f"{name}_FILE: the file cannot be read ({type(error).__name__})") from None


def _from_toml(path: Path) -> dict[str, Any]:
    """``counterfoil.toml`` names settings in lower case, without COUNTERFOIL_."""
    if not path.is_file():
        return {}
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, ValueError, RecursionError):  # no UTF-8, no TOML, a number too long, nested too deeply
        raise ConfigurationError(f"{path.name} is not a TOML file that can be read") from None
    fields = names()
    for name in values:
        if name not in fields:
            raise ConfigurationError(f"{path.name}: {name} is not a setting{_similar(name, set(fields))}")
    return {fields[name][0]: value for name, value in values.items()}


def _similar(name: str, allowed: set[str]) -> str:
    close = difflib.get_close_matches(name, allowed, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _explained(problem: Any) -> str:
    name = str(problem["loc"][0]) if problem["loc"] else "settings"
    if problem["type"] == "missing":
        field = next(field for field, each in names().items() if name in each)
        return f"{name} is not set: {Settings.model_fields[field].description}"
    return f"{name}: {problem['msg'].removeprefix('Value error, ')}"
