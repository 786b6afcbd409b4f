"""The command line: ``python -m app.cli serve``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from pydantic import ValidationError
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from app import keyring, launcher, logs, prune, redaction
from app.config import Settings, child_environment
from app.store import migrate
from app.store.database import UNAVAILABLE, Database
from app.store.keys import USUAL, Scope


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the process's exit status."""
    parser = argparse.ArgumentParser(prog="chainrule", description="Train networks over HTTP.")
    _add(parser, COMMANDS)
    options = vars(parser.parse_args(arguments))
    run: Callable[..., int] = options.pop("run")
    try:
        settings = Settings()
    except ValidationError as error:
        return _refuse(error)
    logs.configure("launcher", settings)
    try:
        return run(settings, **options)
    except (*UNAVAILABLE, ProgrammingError) as error:
        return _despair(error, settings)


def _despair(error: SQLAlchemyError, settings: Settings) -> int:
    """Say that the database does not answer, or is not migrated."""
    said = getattr(error, "orig", None) or error
    reason = redaction.of(settings)(str(said)).strip()
    print(f"the database cannot be used: {reason}; `doctor` says more", file=sys.stderr)
    return 1


def _add(parser: argparse.ArgumentParser, found: dict[str, Any], *group: str) -> None:
    """Add commands to a parser, and those of a group to a parser of its own."""
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, command in found.items():
        described = GROUPS[name] if isinstance(command, dict) else _first_line(command)
        added = commands.add_parser(name, help=described, description=described)
        if isinstance(command, dict):
            _add(added, command, *group, name)
            continue
        for option, facts in OPTIONS.get(" ".join((*group, name)), {}).items():
            added.add_argument(option, **facts)
        added.set_defaults(run=command)


def _first_line(command: Callable[..., int]) -> str:
    return (command.__doc__ or "").splitlines()[0]


def _refuse(error: ValidationError) -> int:
    for found in error.errors(include_url=False):
        name = "".join(f"CHAINRULE_{str(part).upper()}: " for part in found["loc"][:1])
        print(f"{name}{found['msg']}", file=sys.stderr)
    return 2


def serve(settings: Settings) -> int:
    """Run the API and a worker in the foreground until SIGINT or SIGTERM."""
    if not launcher.is_free(settings.host, settings.port):
        advice = "end what listens there, or set CHAINRULE_PORT"
        print(f"{settings.host}:{settings.port} is taken; {advice}", file=sys.stderr)
        return 1
    migrate_database(settings)
    if not keyring.is_locked(settings):
        return _stay_closed(settings)
    supervisor = launcher.Supervisor(
        {"api": launcher.api_command(settings), "worker": launcher.worker_command()},
        child_environment(),
    )
    with launcher.interrupted(supervisor.stop):
        try:
            supervisor.start()
            print(f"Chainrule on http://{settings.host}:{settings.port}, its docs at /docs,")
            print(f"its data in {settings.home.resolve()}; Ctrl-C ends it.", flush=True)
            supervisor.watch()
        finally:
            supervisor.end()
    return 0


def api(settings: Settings) -> int:
    """Run the API alone, as a container does."""
    if not keyring.is_locked(settings):
        return _stay_closed(settings)
    launcher.become(launcher.api_command(settings))
    return 0


def _stay_closed(settings: Settings) -> int:
    print(
        f"anyone who reaches {settings.host} could use the service: make a key with `keys create`, "
        'or set CHAINRULE_API_KEYS to a JSON object such as {"ada": "her key"}, '
        "or CHAINRULE_HOST to 127.0.0.1",
        file=sys.stderr,
    )
    return 2


def worker(_settings: Settings) -> int:
    """Run a worker alone, as a container does."""
    launcher.become(launcher.worker_command())
    return 0


def migrate_database(settings: Settings) -> int:
    """Bring the database to the newest revision."""
    settings.home.mkdir(parents=True, exist_ok=True)
    database = Database(settings.resolved_database_url, statement_seconds=None)
    try:
        migrate.upgrade(database)
    finally:
        database.dispose()
    return 0


def show_demo(settings: Settings) -> int:
    """Train a network on handwritten digits over HTTP, and show what it does."""
    from app import demo  # late: no other command needs an HTTP client

    quiet = {"log_level": "WARNING", "log_format": "console"}
    logs.configure("launcher", settings.model_copy(update=quiet))
    migrate_database(settings)
    return demo.run(settings)


def examine(settings: Settings, *, json: bool) -> int:
    """Look at everything the service needs, and say what is wrong and what to do."""
    from app.doctor import report  # late: no other command needs Celery

    return report.run(settings, as_json=json)


def clean_up(
    settings: Settings, older_than: timedelta | None, *, dry_run: bool, models: bool
) -> int:
    """Delete what nobody needs any more: old jobs, and what crashes left behind."""
    if older_than is None and settings.retention_days is not None:
        older_than = timedelta(days=settings.retention_days)
    return prune.run(settings, older_than, models=models, dry_run=dry_run)


def create_key(
    settings: Settings,
    *,
    owner: str,
    name: str | None,
    scopes: list[Scope],
    expires: timedelta | None,
) -> int:
    """Make a key, and show it this once."""
    migrate_database(settings)
    return keyring.create(settings, owner=owner, name=name, scopes=scopes, lifetime=expires)


def list_keys(settings: Settings, *, owner: str | None) -> int:
    """Show all keys: whose they are, what they are for, when they were used."""
    return keyring.show(settings, owner=owner)


def revoke_key(settings: Settings, *, key: str) -> int:
    """Have a key open nothing any more."""
    return keyring.revoke(settings, key)


def _scopes(text: str) -> list[Scope]:
    try:
        return [Scope(name.strip()) for name in text.split(",")]
    except ValueError as error:
        known = ", ".join(Scope)
        raise argparse.ArgumentTypeError(f"expected some of {known}; {error}") from error


def _title(text: str) -> str:
    if not 0 < len(text.strip()) <= 200 or not text.isprintable():
        raise argparse.ArgumentTypeError("expected 1 to 200 printable characters")
    return text


def _duration(text: str) -> timedelta:
    try:
        return prune.duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


COMMANDS: dict[str, Any] = {
    "serve": serve,
    "demo": show_demo,
    "api": api,
    "worker": worker,
    "migrate": migrate_database,
    "doctor": examine,
    "prune": clean_up,
    "keys": {"create": create_key, "list": list_keys, "revoke": revoke_key},
}

GROUPS = {"keys": "Make, show and revoke the keys that let callers in."}

OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "doctor": {"--json": {"action": "store_true", "help": "print it as JSON"}},
    "prune": {
        "--older-than": {
            "type": _duration,
            "metavar": "30d",
            "help": "delete jobs that ended so long ago; CHAINRULE_RETENTION_DAYS unless given",
        },
        "--models": {"action": "store_true", "help": "delete the models of these jobs as well"},
        "--dry-run": {"action": "store_true", "help": "only say what would be deleted"},
    },
    "keys create": {
        "--owner": {"type": _title, "required": True, "help": "who uses the service with it"},
        "--name": {"type": _title, "help": "what it is for, in words"},
        "--scopes": {
            "type": _scopes,
            "default": list(USUAL),
            "metavar": ",".join(Scope),
            "help": f"what it may be used for; {','.join(USUAL)} unless given",
        },
        "--expires": {
            "type": _duration,
            "metavar": "90d",
            "help": "when it ends; never unless given",
        },
    },
    "keys list": {"--owner": {"type": _title, "help": "only those of one owner"}},
    "keys revoke": {"key": {"help": "its id, which is its first part: key_…"}},
}
"""What the commands take beside the settings, as ``argparse`` wants it."""

if __name__ == "__main__":
    sys.exit(main())
