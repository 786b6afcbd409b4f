"""Canaries: the secrets of all that tests start, and the search for them where none may be.

Each has characters that a URL writes otherwise, as far as a header and a key may have them.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import psycopg
from flask.testing import FlaskClient
from psycopg import sql
from werkzeug.test import TestResponse

KEY = "canary-api+key/4f1c9d2e"
POSTGRES = "canary/postgres@7b3a11"
REDIS = "canary/redis@5e8d22"
S3 = "canary/s3+secret=91f033"
KEYS = {"ada": "key-of-ada-4f1c", "charles": "key-of-charles-9d2e"}
"""Those of the callers of an API within the test's own process."""

GUARDED_KEYS = {name: f"canary-key-of-{name}/8b6d" for name in ("ada", "bob", "mary")}
"""Those of the callers of a service that is sent what is bad."""

API_KEYS = json.dumps({"ada": KEY})
"""The setting that lets those in who show the key."""

SECRETS = (KEY, POSTGRES, REDIS, S3, *KEYS.values(), *GUARDED_KEYS.values())


def _forms(secret: str) -> Iterator[bytes]:
    """Yield a secret as it is, as a URL has it, and as any base64 that holds it does."""
    yield secret.encode()
    yield quote(secret, safe="").encode()
    for before in range(3):
        encoded = b64encode(b"\0" * before + secret.encode()).rstrip(b"=")
        yield encoded[-(-before * 4 // 3) : -1]


FORMS = {form for secret in SECRETS for form in _forms(secret)}


def found_in(data: bytes) -> set[bytes]:
    """Return the canaries in some bytes, in whatever form."""
    return {form for form in FORMS if form in data}


def search(folder: Path, environment: Mapping[str, str]) -> None:
    """Make sure that a service has left no canary: in no file, row or name of its storage.

    Parameters
    ----------
    folder : Path
        The service's home, its logs and its SQLite file among what is there.
    environment : dict of str to str
        The service's own; it says where its database and its storage are.
    """
    told = {}
    for place, data in _said(folder, environment):
        if found := found_in(data):
            told[place] = found
    assert told == {}


def _said(folder: Path, environment: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    for file in folder.rglob("*"):
        yield "a name", str(file.relative_to(folder)).encode()
        if file.is_file():
            yield str(file), file.read_bytes()
    url = environment.get("CHAINRULE_DATABASE_URL", f"sqlite:///{folder}/chainrule.db")
    if url.startswith("sqlite:///"):
        yield "the database", _sqlite(Path(url.removeprefix("sqlite:///")))
    else:
        yield "the database", _postgres(url)
    storage = environment.get("CHAINRULE_STORAGE_URL", "")
    if storage.startswith("s3://"):
        bucket = storage.removeprefix("s3://").partition("/")[0]
        with urlopen(f"{environment['AWS_ENDPOINT_URL']}/{bucket}") as listing:  # noqa: S310 - ours
            yield "the storage", listing.read()


def _sqlite(file: Path) -> bytes:
    """Return every row as SQL."""
    with closing(sqlite3.connect(file)) as connection:
        return "\n".join(connection.iterdump()).encode()


def _postgres(url: str) -> bytes:
    """Return every row; JSON as text, and bytes as they are."""
    with psycopg.connect(url) as connection:
        listed = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        tables = [name for (name,) in connection.execute(listed)]
        found = []
        for table in tables:
            rows = connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table)))
            found += [
                value if isinstance(value, bytes) else str(value).encode()
                for row in rows
                for value in row
            ]
    assert len(tables) > 5
    return b"\n".join(found)


class Listener(logging.Handler):
    """Hears every record of the process as its author wrote it, and keeps those with a canary."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        said = f"{self.format(record)} {record.__dict__}"
        if found_in(said.encode()):
            self.told.append(said)


@contextmanager
def listening() -> Iterator[None]:
    """Make sure that nothing is logged with a canary in it, for a ``with`` block."""
    listener, root = Listener(), logging.getLogger()
    root.addHandler(listener)
    try:
        yield
    finally:
        root.removeHandler(listener)
    assert listener.told == []


class Client(FlaskClient):
    """A client that makes sure that no answer has a canary in it."""

    def open(self, *args: object, **options: object) -> TestResponse:
        answer: TestResponse = super().open(*args, **options)  # type: ignore[arg-type]  # as given
        told = str(answer.headers).encode()
        if not answer.is_streamed:
            told += answer.get_data()
        assert found_in(told) == set()
        return answer
