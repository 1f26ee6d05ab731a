"""Settings: what the environment may say, and what is said about its faults."""

from __future__ import annotations

import os
import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from relay.errors import SettingsError
from relay.settings import Settings

ROOT = Path(__file__).parent.parent
NO_FILE = Path(os.devnull)


def read(env_file: Path = NO_FILE, /, **environ: str) -> Settings:
    return Settings.read(environ, env_file)


def problems(env_file: Path = NO_FILE, /, **environ: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        Settings.read(environ, env_file)
    return caught.value.problems


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    return tmp_path / ".env"


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = read()
    assert (settings.host, settings.port, settings.data) == ("127.0.0.1", 8080, Path(".data"))
    assert (settings.sweep_seconds, settings.batch, settings.origins) == (1.0, 200, ())
    assert (settings.auth, settings.allow_open, settings.apply_schema) == ("off", False, False)
    assert settings.conninfo == settings.listen_conninfo == "host=localhost port=5432 dbname=minipos_db user=postgres"
    assert not settings.database_named


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        read().port = 1  # type: ignore[misc]


def test_all_faults_are_reported_together() -> None:
    found = problems(PORT="99999", RELAY_BATCH="0", RELAY_WINDOW="5", DATABASE_URL="nonsense", HOST="a b")
    assert len(found) == 5
    assert "PORT is '99999'; allowed: 0 to 65535" in found
    assert {problem.split()[0] for problem in found} == {
        "PORT",
        "RELAY_BATCH",
        "RELAY_WINDOW",
        "DATABASE_URL",
        "HOST",
    }


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", "-1"),
        ("PORT", "8080.5"),
        ("PORT", "9" * 5000),
        ("RELAY_SWEEP_SECONDS", "nan"),
        ("RELAY_SWEEP_SECONDS", "inf"),
        ("RELAY_MAX_MESSAGE_BYTES", "1023"),
        ("RELAY_MAX_MESSAGE_BYTES", "67108865"),
        ("RELAY_SNAPSHOT_ORDERS", "10001"),
        ("RELAY_BATCH", "1001"),
        ("RELAY_POOL", "51"),
        ("LOG_LEVEL", "verbose"),
        ("LOG_FORMAT", "xml"),
        ("RELAY_APPLY_SCHEMA", "perhaps"),
        ("HOST", "http://localhost"),
        ("DB_PORT", "0"),
        ("RELAY_AUTH", "on"),
        ("RELAY_AUTH", "tokens"),
        ("RELAY_UNIDENTIFIED", "0"),
    ],
)
def test_a_value_that_is_not_allowed_is_a_fault_that_names_it_briefly(variable: str, value: str) -> None:
    (problem,) = problems(**{variable: value})
    assert problem.startswith(f"{variable} is '{value[:100]}")
    assert "; allowed: " in problem
    assert len(problem) < 300


@pytest.mark.parametrize("variable", ["RELAY_MAX_MESSAGE_BYTES", "RELAY_BATCH", "PORT", "RELAY_LOCK_MS"])
def test_both_ends_of_a_range_are_allowed(variable: str) -> None:
    (meaning,) = (meaning for name, _, meaning in Settings.describe() if name == variable)
    low, high = re.findall(r"\((\d+) to (\d+)\)", meaning)[-1]
    read(**{variable: low})
    read(**{variable: high})
    problems(**{variable: str(int(low) - 1)})
    problems(**{variable: str(int(high) + 1)})


@pytest.mark.parametrize("word", ["1", "on", "true", "YES", " On "])
def test_a_switch_is_turned_on_in_several_words(word: str) -> None:
    assert read(RELAY_APPLY_SCHEMA=word).apply_schema is True


@pytest.mark.parametrize("word", ["0", "off", "False", "no"])
def test_a_switch_is_turned_off_in_several_words(word: str) -> None:
    assert read(RELAY_APPLY_SCHEMA=word, RELAY_AUTH=word).apply_schema is False


def test_an_empty_value_counts_as_unset(env_file: Path) -> None:
    env_file.write_text("PORT=9000\nDB_HOST=\nLOG_LEVEL\n")
    settings = read(env_file, PORT=" ", DB_NAME="", RELAY_UNKNOWN="")
    assert (settings.port, settings.log_level, settings.database_named) == (9000, "info", False)


def test_an_unknown_relay_variable_is_a_fault_with_the_likely_name() -> None:
    assert problems(RELAY_HEARTBEAT_SECOND="secret") == (
        "RELAY_HEARTBEAT_SECOND is not a setting; did you mean RELAY_HEARTBEAT_SECONDS?",
    )
    assert problems(RELAY_LOG_LEVEL="info") == ("RELAY_LOG_LEVEL is not a setting; did you mean LOG_LEVEL?",)
    assert problems(RELAY_QQ="1") == ("RELAY_QQ is not a setting",)


def test_variables_of_others_are_ignored() -> None:
    assert read(NODE_ENV="production", POSTGRES_PASSWORD="x", PATH="/bin") == read()


# --- .env


def test_the_environment_wins_over_the_file_and_stays_as_it_was(
    env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_file.write_text("PORT=9000\nLOG_LEVEL=debug\n")
    for name, _, _ in Settings.describe():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PORT", "9001")
    monkeypatch.chdir(env_file.parent)
    before = dict(os.environ)
    settings = Settings.read()
    assert (settings.port, settings.log_level) == (9001, "debug")
    assert dict(os.environ) == before


def test_a_missing_file_is_fine(tmp_path: Path) -> None:
    assert read(tmp_path / "none") == read()


def test_a_file_is_read_as_windows_editors_write_it_and_without_interpolation(env_file: Path) -> None:
    env_file.write_bytes("\ufeffPORT=9000\r\nDB_PASSWORD='a${PORT}$b'\r\n".encode())
    settings = read(env_file)
    assert settings.port == 9000
    assert conninfo_to_dict(settings.conninfo)["password"] == "a${PORT}$b"


def test_a_file_that_is_not_text_is_one_fault_among_others(env_file: Path) -> None:
    env_file.write_bytes("PORT=9000".encode("utf-16"))
    found = problems(env_file, RELAY_POOL="0")
    assert len(found) == 2
    assert str(env_file) in found[0]


def test_faults_in_the_file_are_reported_too(env_file: Path) -> None:
    env_file.write_text("RELAY_POLL=3\nRELAY_BATCH=many\n")
    assert len(problems(env_file)) == 2


# --- the database


@pytest.mark.parametrize(
    "url",
    ["postgres://u:p@db:5433/x", "postgresql://u:p@db:5433/x", "host=db port=5433 dbname=x user=u password=p"],
)
def test_database_url_is_a_url_or_key_values_and_wins_over_db_variables(url: str) -> None:
    settings = read(DATABASE_URL=url, DB_HOST="elsewhere", DB_PASSWORD="other")
    assert settings.conninfo == settings.listen_conninfo == url
    assert settings.database_named


def test_a_url_with_several_hosts_and_options_is_taken() -> None:
    url = "postgresql://u@h1:1,h2/x?target_session_attrs=read-write"
    assert read(DATABASE_URL=url).conninfo == url


def test_db_variables_make_the_connection_string_whatever_is_in_the_password() -> None:
    settings = read(DB_HOST="db", DB_PORT="5433", DB_NAME="x y", DB_USER="u", DB_PASSWORD=" o'h \\no ")
    assert conninfo_to_dict(settings.conninfo) == {
        "host": "db",
        "port": "5433",
        "dbname": "x y",
        "user": "u",
        "password": " o'h \\no ",
    }
    assert settings.database_named


def test_states_may_be_read_from_a_standby() -> None:
    assert read(DB_HOST="primary").read_conninfo == ""
    settings = read(DB_HOST="primary", READ_DATABASE_URL="host=standby")
    assert settings.read_conninfo == "host=standby"
    assert "host=primary" in settings.conninfo


def test_listening_may_go_past_a_pooler() -> None:
    settings = read(DB_HOST="pooler", LISTEN_DATABASE_URL="host=direct")
    assert settings.listen_conninfo == "host=direct"
    assert "host=pooler" in settings.conninfo


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:hunter2@h/db",
        "postgresql+psycopg://u:hunter2@h/db",
        "postgres://u:hunter2%ZZ@h/db",
        "postgres://u:hunter2/x@h/db",
        "postgres://u:hun@hunter2@h/db",
        "postgres://u:p@h:hunter2/db",
        "password='hunter2",
        "password=hunter2 hunter2=1",
        "postgres://u@h/db?hunter2=1",
    ],
)
@pytest.mark.parametrize("variable", ["DATABASE_URL", "LISTEN_DATABASE_URL", "READ_DATABASE_URL"])
def test_a_faulty_connection_string_is_found_without_showing_its_password(variable: str, url: str) -> None:
    (problem,) = problems(**{variable: url})
    assert problem.startswith(f"{variable} cannot be used; allowed: postgresql://")
    assert "hun" not in problem


def test_a_password_never_shows_elsewhere() -> None:
    variables = ("DATABASE_URL", "LISTEN_DATABASE_URL", "READ_DATABASE_URL")
    settings = read(**dict.fromkeys(variables, "postgres://u:hunter2@h/db"))
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in "".join(problems(HOST="postgres://u:hunter2@h/db", RELAY_ORIGINS="https://u:hunter2@h"))


# --- who may come in


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST"])
def test_loopback_needs_no_permission(host: str) -> None:
    assert read(HOST=host).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "pos.example.com", "localhost.example.com", "127.1"])
def test_an_open_address_without_authentication_must_be_meant(host: str) -> None:
    (problem,) = problems(HOST=host)
    assert repr(host) in problem
    assert "HOST=127.0.0.1" in problem
    assert "set RELAY_AUTH=token, " in problem
    assert "RELAY_ALLOW_OPEN=1" in problem
    assert read(HOST=host, RELAY_ALLOW_OPEN="1").host == host


@pytest.mark.parametrize("auth", [{"RELAY_AUTH": "token"}, {"RELAY_AUTH": "JWT", "RELAY_JWT_KEY": "keys.json"}])
def test_with_authentication_an_open_address_needs_no_permission(auth: dict[str, str]) -> None:
    settings = read(HOST="0.0.0.0", **auth)
    assert (settings.host, settings.auth) == ("0.0.0.0", auth["RELAY_AUTH"].lower())


def test_signed_tokens_need_a_key_to_check_them_with() -> None:
    (problem,) = problems(RELAY_AUTH="jwt")
    assert "RELAY_JWT_KEY is not set" in problem
    assert read(RELAY_AUTH="jwt", RELAY_JWT_KEY="~/keys.json").jwt_key == Path("~/keys.json").expanduser()


def test_origins_are_listed_as_browsers_write_them() -> None:
    listed = (
        "https://Pos.example.com, http://10.0.0.2:3000,https://a.example:443,http://[::1]:80, capacitor://localhost,"
    )
    assert read(RELAY_ORIGINS=listed).origins == (
        "https://pos.example.com",
        "http://10.0.0.2:3000",
        "https://a.example",
        "http://[::1]",
        "capacitor://localhost",
    )


@pytest.mark.parametrize(
    "origin",
    ["*", "null", "pos.example.com", "https://a/", "https://a/x", "https://*.a", "https://a:70000", "https://"],
)
def test_what_no_browser_sends_as_origin_is_a_fault(origin: str) -> None:
    (problem,) = problems(RELAY_ORIGINS=f"https://good.example,{origin}")
    assert origin in problem
    assert "scheme://host[:port]" in problem


# --- the three places that list the settings agree


def test_the_example_file_lists_every_setting_with_its_default_and_a_line_above() -> None:
    head, *blocks = (ROOT / ".env.example").read_text().strip().split("\n\n")
    assert head.startswith("# ")
    assert blocks == [f"# {meaning}\n# {name}={default}" for name, default, meaning in Settings.describe()]


def test_copying_the_example_file_changes_nothing() -> None:
    assert read(ROOT / ".env.example", RELAY_POOL="7") == read(RELAY_POOL="7")


def test_every_default_of_the_example_file_is_the_real_one(env_file: Path) -> None:
    example = (ROOT / ".env.example").read_text()
    env_file.write_text(re.sub(r"^# (?=[A-Z_]+=)", "", example, flags=re.MULTILINE))
    assert "\nPORT=8080\n" in env_file.read_text()
    named = read(env_file)
    assert named.database_named  # DB_HOST is set now; nothing else differs
    assert named == read(DB_HOST="localhost")


def test_the_readme_lists_every_setting() -> None:
    rows = [
        f"| `{name}` | {f'`{default}`' if default else ''} | {meaning} |"
        for name, default, meaning in Settings.describe()
    ]
    listed = re.findall(r"^\| `[A-Z_]+` \|.*\|$", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert listed == rows
