"""The command line: ``python -m app.cli serve``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from app import demo, launcher, logs, prune
from app.config import Settings, child_environment
from app.doctor import report
from app.store import migrate
from app.store.database import Database


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the process's exit status."""
    parser = argparse.ArgumentParser(prog="chainrule", description="Train networks over HTTP.")
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, command in COMMANDS.items():
        described = (command.__doc__ or "").splitlines()[0]
        added = commands.add_parser(name, help=described, description=described)
        for option, facts in OPTIONS.get(name, {}).items():
            added.add_argument(option, **facts)
        added.set_defaults(run=command)
    options = vars(parser.parse_args(arguments))
    run: Callable[..., int] = options.pop("run")
    try:
        settings = Settings()
    except ValidationError as error:
        return _refuse(error)
    logs.configure("launcher", settings.log_level, settings.log_format)
    return run(settings, **options)


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
    launcher.become(launcher.api_command(settings))
    return 0


def worker(_settings: Settings) -> int:
    """Run a worker alone, as a container does."""
    launcher.become(launcher.worker_command())
    return 0


def migrate_database(settings: Settings) -> int:
    """Bring the database to the newest revision."""
    settings.home.mkdir(parents=True, exist_ok=True)
    database = Database(settings.resolved_database_url)
    try:
        migrate.upgrade(database)
    finally:
        database.dispose()
    return 0


def show_demo(settings: Settings) -> int:
    """Train a network on handwritten digits over HTTP, and show what it does."""
    logs.configure("launcher", "WARNING", "console")
    migrate_database(settings)
    return demo.run(settings)


def examine(settings: Settings, *, json: bool) -> int:
    """Look at everything the service needs, and say what is wrong and what to do."""
    return report.run(settings, as_json=json)


def clean_up(
    settings: Settings, older_than: timedelta | None, *, dry_run: bool, models: bool
) -> int:
    """Delete what nobody needs any more: old jobs, and what crashes left behind."""
    if older_than is None and settings.retention_days is not None:
        older_than = timedelta(days=settings.retention_days)
    return prune.run(settings, older_than, models=models, dry_run=dry_run)


def _duration(text: str) -> timedelta:
    try:
        return prune.duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


COMMANDS: dict[str, Callable[..., int]] = {
    "serve": serve,
    "demo": show_demo,
    "api": api,
    "worker": worker,
    "migrate": migrate_database,
    "doctor": examine,
    "prune": clean_up,
}

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
}
"""What the commands take beside the settings, as ``argparse`` wants it."""

if __name__ == "__main__":
    sys.exit(main())
