"""Settings: where they come from, which one wins, and what is said where one is wrong."""

import os
from pathlib import Path

import pytest

from counterfoil.errors import ConfigurationError
from counterfoil.settings import Settings, database_url, load, names

NEEDED = {
    "CLERK_SECRET_KEY": "sk_test_clerkSecretValue",
    "CLERK_WEBHOOK_SIGNING_SECRET": "whsec_signingSecretValue",
    "STRIPE_SECRET_KEY": "sk_test_stripeSecretValue",
}


def refusal(folder: Path, **environ: str) -> str:
    """What is said of settings that are wrong."""
    with pytest.raises(ConfigurationError) as error:
        load({**NEEDED, **environ}, folder)
    return str(error.value)


def test_three_settings_are_needed_and_all_others_have_a_default(tmp_path: Path) -> None:
    settings = load(NEEDED, tmp_path)
    assert settings.clerk_secret_key.get_secret_value() == "sk_test_clerkSecretValue"
    assert settings.database_url == "sqlite:///counterfoil.db"
    assert (settings.host, settings.port, settings.webhook_path) == ("127.0.0.1", 8787, "/webhooks/clerk")
    assert settings.stripe_api_base is None
    assert (settings.intent_ttl, settings.quiet) == (20 * 3_600_000, 10_000)


def test_each_that_is_missing_is_named_with_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        load({}, tmp_path)
    lines = str(error.value).splitlines()
    assert [line.split(" is not set: ")[0] for line in lines] == list(NEEDED)
    assert "sk_test_..." in lines[0]


def test_an_empty_value_is_none(tmp_path: Path) -> None:
    assert "CLERK_SECRET_KEY is not set" in refusal(tmp_path, CLERK_SECRET_KEY="")
    assert load({**NEEDED, "COUNTERFOIL_PORT": ""}, tmp_path).port == 8787


@pytest.mark.parametrize("name", ["SIGNING_SECRET", "CLERK_WEBHOOK_SECRET", "WEBHOOK_SECRET"])
def test_the_signing_secret_goes_by_the_names_that_other_tools_use(tmp_path: Path, name: str) -> None:
    environ = {**NEEDED, name: "whsec_other"}
    assert load(environ, tmp_path).signing_secrets() == ["whsec_signingSecretValue"]
    del environ["CLERK_WEBHOOK_SIGNING_SECRET"]
    assert load(environ, tmp_path).signing_secrets() == ["whsec_other"]


def test_other_names_are_known_too(tmp_path: Path) -> None:
    environ = {**NEEDED, "STRIPE_API_KEY": "sk_test_other", "PORT": "9000"}
    settings = load(environ, tmp_path)
    assert settings.stripe_secret_key.get_secret_value() == "sk_test_stripeSecretValue"
    assert settings.port == 9000
    del environ["STRIPE_SECRET_KEY"]
    assert load(environ, tmp_path).stripe_secret_key.get_secret_value() == "sk_test_other"
    assert load({**environ, "COUNTERFOIL_PORT": "9001"}, tmp_path).port == 9001


def test_every_setting_has_a_name_of_its_own_and_a_description() -> None:
    known = names()
    assert set(known) == set(Settings.model_fields)
    every = [name for each in known.values() for name in each]
    assert len(every) == len(set(every))
    assert all(info.description for info in Settings.model_fields.values())


def test_several_signing_secrets_are_told_apart(tmp_path: Path) -> None:
    environ = {**NEEDED, "CLERK_WEBHOOK_SIGNING_SECRET": " whsec_new, whsec_old ,"}
    assert load(environ, tmp_path).signing_secrets() == ["whsec_new", "whsec_old"]


def test_a_setting_may_be_the_content_of_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("sk_test_ofTheFile\n")
    environ = {**NEEDED, "CLERK_SECRET_KEY_FILE": str(secret)}
    assert load(environ, tmp_path).clerk_secret_key.get_secret_value() == "sk_test_clerkSecretValue"
    del environ["CLERK_SECRET_KEY"]
    assert load(environ, tmp_path).clerk_secret_key.get_secret_value() == "sk_test_ofTheFile"
    port = tmp_path / "port"
    port.write_text(" 9002 ")
    assert load({**NEEDED, "COUNTERFOIL_PORT_FILE": str(port)}, tmp_path).port == 9002


def test_a_file_that_cannot_be_read_is_named_by_its_setting(tmp_path: Path) -> None:
    missing = refusal(tmp_path, CLERK_SECRET_KEY="", CLERK_SECRET_KEY_FILE=str(tmp_path / "hush"))
    assert missing == "CLERK_SECRET_KEY_FILE: the file cannot be read (FileNotFoundError)"
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    assert "UnicodeDecodeError" in refusal(tmp_path, CLERK_SECRET_KEY="", CLERK_SECRET_KEY_FILE=str(binary))


def test_the_environment_goes_before_dotenv_and_dotenv_before_toml(tmp_path: Path) -> None:
    (tmp_path / "counterfoil.toml").write_text('port = 1001\nhost = "10.0.0.1"\nquiet = "3s"\n')
    (tmp_path / ".env").write_text("COUNTERFOIL_PORT=1002\nCOUNTERFOIL_HOST=10.0.0.2\nUNRELATED=1\n")
    settings = load({**NEEDED, "COUNTERFOIL_PORT": "1003"}, tmp_path)
    assert (settings.port, settings.host, settings.quiet) == (1003, "10.0.0.2", 3_000)


def test_another_name_in_the_environment_goes_before_the_first_one_in_dotenv(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("COUNTERFOIL_PORT=1002\n")
    assert load({**NEEDED, "PORT": "1003"}, tmp_path).port == 1003


def test_dotenv_leaves_the_processs_environment_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COUNTERFOIL_PORT", raising=False)
    (tmp_path / ".env").write_text("COUNTERFOIL_PORT=1002\n")
    load(NEEDED, tmp_path)
    assert "COUNTERFOIL_PORT" not in os.environ


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("COUNTERFOIL_METADATA_KEYS", "; did you mean COUNTERFOIL_METADATA_KEY?"),
        ("COUNTERFOIL_PROT", "; did you mean COUNTERFOIL_PORT?"),
        ("COUNTERFOIL_PROT_FILE", "; did you mean COUNTERFOIL_PORT?"),
        ("COUNTERFOIL_ZZZZZZZZZZZZZZ", ""),
    ],
)
def test_a_name_that_is_no_setting_is_said_with_the_nearest(tmp_path: Path, name: str, hint: str) -> None:
    said = refusal(tmp_path, **{name: "hush"})
    assert said.startswith(f"{name} is not a setting")
    assert said.endswith(hint or "is not a setting")


def test_a_name_in_toml_that_is_no_setting_is_said_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "counterfoil.toml").write_text('metadata_kye = "x"\n')
    assert refusal(tmp_path) == "counterfoil.toml: metadata_kye is not a setting; did you mean metadata_key?"


@pytest.mark.parametrize("text", [b"port = ", b"\xff\xfe", b"[section]\nport = 1\n"])
def test_a_toml_that_is_none_of_ours_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "counterfoil.toml").write_bytes(text)
    assert "counterfoil.toml" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("90s", 90_000), ("15m", 900_000), ("20h", 72_000_000), ("1500ms", 1_500), (" 2 h ", 7_200_000)],
)
def test_durations(tmp_path: Path, text: str, milliseconds: int) -> None:
    name = "COUNTERFOIL_INTENT_TTL" if milliseconds >= 60_000 else "COUNTERFOIL_QUIET"
    settings = load({**NEEDED, name: text}, tmp_path)
    assert milliseconds in {settings.intent_ttl, settings.quiet}


def test_a_duration_of_days(tmp_path: Path) -> None:
    assert load({**NEEDED, "COUNTERFOIL_JOURNAL_KEEP": "30d"}, tmp_path).journal_keep == 30 * 86_400_000


@pytest.mark.parametrize("text", ["20", "h", "-5m", "1.5h", "20 hours", "1h30m", "9999999999s"])
def test_what_is_no_duration_is_said_with_an_example(tmp_path: Path, text: str) -> None:
    said = refusal(tmp_path, COUNTERFOIL_QUIET=text)
    assert said == "COUNTERFOIL_QUIET: write a duration like 10s, 15m, 20h or 90d"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("COUNTERFOIL_INTENT_TTL", "23h"),
        ("COUNTERFOIL_INTENT_TTL", "59s"),
        ("COUNTERFOIL_QUIET", "999ms"),
        ("COUNTERFOIL_PORT", "65536"),
        ("COUNTERFOIL_PORT", "hush"),
        ("COUNTERFOIL_STRIPE_RATE", "0"),
        ("COUNTERFOIL_CLERK_RATE", "nan"),
        ("COUNTERFOIL_CLERK_RATE", "-1"),
        ("COUNTERFOIL_LOG_LEVEL", "hush"),
        ("COUNTERFOIL_METADATA_KEY", "a b"),
        ("COUNTERFOIL_WEBHOOK_PATH", "hush"),
        ("CLERK_API_URL", "hush"),
        ("STRIPE_API_BASE", "ftp://hush"),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_its_settings_name(tmp_path: Path, name: str, value: str) -> None:
    assert refusal(tmp_path, **{name: value}).startswith(f"{name}: ")


def test_no_value_is_ever_repeated(tmp_path: Path) -> None:
    wrong = {name: f"hush-{name}-hush" for each in names().values() for name in each}
    said = refusal(tmp_path, **wrong)
    assert "hush" not in said
    assert len(said.splitlines()) > 8


def test_secrets_are_masked_wherever_settings_are_shown(tmp_path: Path) -> None:
    settings = load(NEEDED, tmp_path)
    for shown in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        for value in NEEDED.values():
            assert value not in shown


def test_settings_are_frozen(tmp_path: Path) -> None:
    settings = load(NEEDED, tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1


def test_commands_without_keys_find_the_database_as_serve_does(tmp_path: Path) -> None:
    assert database_url({}, tmp_path) == "sqlite:///counterfoil.db"
    (tmp_path / "counterfoil.toml").write_text('database_url = "sqlite:///toml.db"\n')
    assert database_url({}, tmp_path) == "sqlite:///toml.db"
    (tmp_path / ".env").write_text("DATABASE_URL=sqlite:///dotenv.db\n")
    assert database_url({}, tmp_path) == "sqlite:///dotenv.db"
    assert database_url({"DATABASE_URL": "sqlite:///environ.db"}, tmp_path) == "sqlite:///environ.db"


def test_tokens_are_long_and_are_taken_one_by_one(tmp_path: Path) -> None:
    assert load(NEEDED, tmp_path).api_tokens() == []
    two = {**NEEDED, "COUNTERFOIL_API_TOKEN": "a-token-of-some-length, another-of-some-length"}
    assert load(two, tmp_path).api_tokens() == ["a-token-of-some-length", "another-of-some-length"]
    for wrong in ("short", "a-token-of-some-length,short", "a token with spaces"):
        said = refusal(tmp_path, COUNTERFOIL_API_TOKEN=wrong)
        assert said.startswith("COUNTERFOIL_API_TOKEN: a token has 16 characters at least")
        assert wrong not in said


@pytest.mark.parametrize("url", ["https://alerts.example.com", "http://127.0.0.1:8000/hook?token=x"])
def test_an_address_for_alerts_is_a_secret(tmp_path: Path, url: str) -> None:
    settings = load({**NEEDED, "COUNTERFOIL_ALERT_URL": url}, tmp_path)
    assert settings.alert_url is not None
    assert settings.alert_url.get_secret_value() == url
    assert url not in repr(settings)


@pytest.mark.parametrize(
    "url", ["alerts.example.com/secret", "ftp://example.com", "https://", "https://a b", "https://u:secret@x/"]
)
def test_an_address_for_alerts_that_is_none_is_refused_without_repeating_it(tmp_path: Path, url: str) -> None:
    said = refusal(tmp_path, COUNTERFOIL_ALERT_URL=url)
    assert said == "COUNTERFOIL_ALERT_URL: write the receiver's whole address: https://..."


def test_what_the_client_reads_may_share_the_environment(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("COUNTERFOIL_URL=http://127.0.0.1:8787\n")
    assert load({**NEEDED, "COUNTERFOIL_URL": "http://127.0.0.1:8787"}, tmp_path).port == 8787


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("acme.com", "acme.com"),
        (" Acme.COM , *.acme.org,.b.de,", "acme.com,.acme.org,.b.de"),
        ("localhost", "localhost"),
    ],
)
def test_domains_are_kept_in_lower_case_and_subdomains_begin_with_a_dot(
    tmp_path: Path, given: str, kept: str
) -> None:
    assert load({**NEEDED, "COUNTERFOIL_ONLY_DOMAINS": given}, tmp_path).only_domains == kept


def test_what_is_mirrored_is_kept_in_one_order(tmp_path: Path) -> None:
    assert load({**NEEDED, "COUNTERFOIL_MIRROR": "phone, email"}, tmp_path).mirror == "email,phone"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("COUNTERFOIL_CREATE", "later", "'on_created', 'on_verified_email' or 'on_demand'"),
        ("COUNTERFOIL_NO_EMAIL", "skip", "'wait' or 'create'"),
        ("COUNTERFOIL_ADOPT", "unsafe", "'metadata', 'verified_email' or 'never'"),
        ("COUNTERFOIL_LINK_BACK", "unsafe", "'public', 'private' or 'off'"),
        ("COUNTERFOIL_ONLY_DOMAINS", "a@acme.com", "write domains"),
        ("COUNTERFOIL_ONLY_DOMAINS", "*", "write domains"),
        ("COUNTERFOIL_ONLY_DOMAINS", ",", "write domains"),
        ("COUNTERFOIL_ONLY_METADATA", "plan", "write a key and a value"),
        ("COUNTERFOIL_ONLY_METADATA", "=pro", "write a key and a value"),
        ("COUNTERFOIL_ELIGIBLE", "rules.py", "package.module:function"),
        ("COUNTERFOIL_MAPPING", "rules:", "package.module:function"),
        ("COUNTERFOIL_MIRROR", "email,address", "write some of email, name, phone"),
    ],
)
def test_a_policy_that_is_none_is_refused(tmp_path: Path, name: str, value: str, told: str) -> None:
    said = refusal(tmp_path, **{name: value})
    assert said.startswith(f"{name}: ")
    assert told in said


def test_settings_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    both = refusal(tmp_path, COUNTERFOIL_MAPPING="rules:fields", COUNTERFOIL_MIRROR="email")
    assert "set COUNTERFOIL_MAPPING or COUNTERFOIL_MIRROR, not both" in both
    blind = refusal(tmp_path, COUNTERFOIL_ADOPT="verified_email", COUNTERFOIL_MIRROR="name")
    assert "COUNTERFOIL_ADOPT=verified_email needs email in COUNTERFOIL_MIRROR" in blind


@pytest.mark.parametrize(
    ("role", "unused"),
    [("receiver", ["CLERK_SECRET_KEY", "STRIPE_SECRET_KEY"]), ("worker", ["CLERK_WEBHOOK_SIGNING_SECRET"])],
)
def test_a_role_is_asked_for_the_secrets_that_it_uses_and_no_other(
    tmp_path: Path, role: str, unused: list[str]
) -> None:
    environ = {name: value for name, value in NEEDED.items() if name not in unused}
    environ["DATABASE_URL"] = "postgresql://host/name"
    assert load({**environ, "COUNTERFOIL_ROLE": role}, tmp_path).role == role
    assert load({**environ, "COUNTERFOIL_ROLE": "all"}, tmp_path, role=role).role == role
    with pytest.raises(ConfigurationError, match=unused[0]):
        load(environ, tmp_path)


@pytest.mark.parametrize("role", ["receiver", "worker"])
def test_sqlite_refuses_to_share_its_work(tmp_path: Path, role: str) -> None:
    said = refusal(tmp_path, COUNTERFOIL_ROLE=role)
    assert f"COUNTERFOIL_ROLE={role} needs PostgreSQL (DATABASE_URL)" in said
