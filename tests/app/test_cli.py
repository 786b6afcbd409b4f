"""The command line refuses with a name and a status, and migrates what it is pointed at."""

from __future__ import annotations

import socket

import pytest

from app import cli, launcher
from app.store import keys, migrate
from app.store.database import Database
from tests import servers

pytestmark = pytest.mark.usefixtures("own_logs")


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run a command with a home of the test's own; return its status and what it said."""
    monkeypatch.setenv("CHAINRULE_HOME", str(tmp_path / "home"))

    def call(*arguments, **settings):
        for name, value in settings.items():
            monkeypatch.setenv(f"CHAINRULE_{name.upper()}", value)
        status = cli.main(arguments)
        return status, capsys.readouterr()

    return call


def commands(found=cli.COMMANDS):
    """Yield the words of every command."""
    for name, command in found.items():
        if isinstance(command, dict):
            yield from ([name, *rest] for rest in commands(command))
        else:
            yield [name]


NEEDED = {"create": ["--owner=ada"], "revoke": ["key_x"]}


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "eighty"),
        ("database_url", "mysql://localhost/x"),
        ("api_keys", "her key"),
        ("log_level", "LOUD"),
        ("lease_seconds", "0"),
    ],
)
def test_a_setting_that_cannot_work_is_named_and_ends_every_command_with_2(
    run, command, name, value
):
    status, said = run(*command, *NEEDED.get(command[-1], ()), **{name: value})
    assert status == 2
    assert said.err.startswith(f"CHAINRULE_{name.upper()}: ")
    assert said.out == ""


@pytest.mark.parametrize("command", ["serve", "api"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])  # noqa: S104 - refused
def test_without_a_key_nothing_listens_where_others_reach_it(run, command, host):
    run("migrate")
    status, said = run(command, host=host, port=str(servers.free_port()))
    assert status == 2
    assert host in said.err
    for way_out in ("keys create", "CHAINRULE_API_KEYS", "CHAINRULE_HOST"):
        assert way_out in said.err


def test_with_a_key_the_service_listens_where_others_reach_it(run, monkeypatch):
    monkeypatch.setattr(launcher, "become", lambda command: command)
    run("keys", "create", "--owner=ada")
    assert run("api", host="0.0.0.0")[0] == 0  # noqa: S104 - nothing listens


def test_a_key_is_made_shown_listed_and_revoked(run):
    status, said = run("keys", "create", "--owner=ada", "--scopes=read,predict", "--expires=90d")
    key = said.out.strip()
    assert status == 0
    assert keys.TOKEN.fullmatch(key)
    assert "lets ada read, predict until " in said.err
    assert key not in said.err
    _, said = run("keys", "list")
    assert key[:36] in said.out
    assert "good until" in said.out
    assert key not in said.out
    assert run("keys", "revoke", key[:36])[0] == 0
    assert "revoked" in run("keys", "list", "--owner=ada")[1].out
    assert key[:36] not in run("keys", "list", "--owner=charles")[1].out


def test_a_key_that_is_not_there_cannot_be_revoked(run):
    run("migrate")
    status, said = run("keys", "revoke", "key_x")
    assert status == 1
    assert "key_x" in said.err


@pytest.mark.parametrize(
    ("command", "settings"),
    [
        (["keys", "list"], {}),
        (["prune"], {}),
        (["migrate"], {"database_url": "postgresql://ada:hunter2@127.0.0.1:1/chain"}),
    ],
)
def test_a_database_that_cannot_be_used_is_no_traceback(run, command, settings):
    status, said = run(*command, **settings)
    assert status == 1
    assert "the database cannot be used" in said.err
    assert "hunter2" not in said.err


@pytest.mark.parametrize(
    "option", ["--owner=", "--owner=\n", "--scopes=", "--scopes=read,write", "--expires=soon"]
)
def test_a_key_that_makes_no_sense_is_refused(run, option, capsys):
    with pytest.raises(SystemExit) as end:
        run("keys", "create", "--owner=ada", option)
    assert end.value.code == 2
    assert "expected" in capsys.readouterr().err


def test_settings_that_cannot_work_together_are_named(run):
    status, said = run("serve", lease_seconds="1", heartbeat_seconds="1")
    assert status == 2
    assert "CHAINRULE_LEASE_SECONDS" in said.err


def test_several_settings_that_cannot_work_are_all_named(run):
    _, said = run("serve", port="0", api_threads="-1")
    assert {line.split(":")[0] for line in said.err.splitlines()} == {
        "CHAINRULE_PORT",
        "CHAINRULE_API_THREADS",
    }


def test_a_key_that_is_refused_is_not_shown(run):
    _, said = run("serve", api_keys='["analytical"]')
    assert "CHAINRULE_API_KEYS" in said.err
    assert "analytical" not in said.err


def test_migrate_makes_the_home_and_the_database_and_may_run_again(run, tmp_path):
    for _ in range(2):
        status, _ = run("migrate")
        assert status == 0
    file = tmp_path / "home" / "chainrule.db"
    database = Database(f"sqlite:///{file}")
    try:
        assert migrate.is_current(database)
    finally:
        database.dispose()


def test_serve_names_the_port_that_is_taken_and_touches_nothing(run, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, said = run("serve", port=port)
    assert status == 1
    assert f"127.0.0.1:{port} is taken" in said.err
    assert "CHAINRULE_PORT" in said.err
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("arguments", [[], ["fly"], ["serve", "--fast"]])
def test_what_is_no_command_is_refused_with_the_usage(run, arguments, capsys):
    with pytest.raises(SystemExit) as end:
        run(*arguments)
    assert end.value.code == 2
    assert "usage: chainrule" in capsys.readouterr().err


@pytest.mark.parametrize("age", ["", "30", "d", "0d", "-3d", "1.5d", "30 d", "30m", "999999d"])
def test_an_age_that_says_nothing_is_refused_with_one_that_would_do(run, age, capsys):
    with pytest.raises(SystemExit) as end:
        run("prune", f"--older-than={age}")
    assert end.value.code == 2
    assert f"12h, 30d; got {age!r}" in capsys.readouterr().err


def test_help_has_a_line_for_every_command(run, capsys):
    with pytest.raises(SystemExit) as end:
        run("--help")
    assert end.value.code == 0
    said = capsys.readouterr().out
    for name in cli.COMMANDS:
        assert f"\n    {name} " in said
