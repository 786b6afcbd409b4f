"""Login: whose key a request shows, and what it is for."""

from __future__ import annotations

import hashlib
import hmac
from contextlib import suppress
from dataclasses import dataclass

from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized

from app.config import Settings
from app.store import keys
from app.store.database import UNAVAILABLE, Database
from app.store.keys import Scope
from app.store.tables import ApiKey

LOCAL_OWNER = "local"
"""Who everything belongs to where there are no keys."""


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Parameters
    ----------
    owner : str
    scopes : frozenset of Scope
    """

    owner: str
    scopes: frozenset[Scope]


class Login:
    """Knows the keys: those of the settings, and those of the database.

    Where there are none at all, and only this machine reaches the service,
    everyone is let in. From the first key on nobody is without one, also when
    every key was revoked.

    Parameters
    ----------
    settings : Settings
    database : Database
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._may_be_open = settings.is_local and not settings.api_keys
        self._owners = {
            _digest(key.get_secret_value().encode()): owner
            for owner, key in settings.api_keys.items()
        }

    def caller(self, authorization: str) -> Caller:
        """Return who asks.

        Raises
        ------
        Unauthorized
            The header shows no key that may be used.
        """
        if self._may_be_open and not self._keys_exist():
            return Caller(LOCAL_OWNER, frozenset(Scope))
        scheme, _, token = authorization.partition(" ")
        found = self._find(token.strip()) if scheme.lower() == "bearer" else None
        if found is None:
            reason = "send `Authorization: Bearer <key>` with a key that the service knows"
            raise Unauthorized(reason, www_authenticate=WWWAuthenticate("bearer"))
        return found

    def _keys_exist(self) -> bool:
        with self._database.reading() as session:
            self._may_be_open = not keys.exist(session)
        return not self._may_be_open

    def _find(self, token: str) -> Caller | None:
        """Compare with every key of the settings, in constant time each; then ask the database."""
        sent = _digest(token.encode("latin-1", "replace"))
        mine = [o for digest, o in self._owners.items() if hmac.compare_digest(digest, sent)]
        if mine:
            return Caller(mine[0], frozenset(Scope))
        if keys.TOKEN.fullmatch(token) is None:
            return None
        with self._database.reading() as session:
            key = keys.authenticate(session, token)
        if key is None:
            return None
        self._note_use(key)
        return Caller(key.owner, frozenset(map(Scope, key.scopes)))

    def _note_use(self, key: ApiKey) -> None:
        if not keys.is_noted(key):
            with suppress(*UNAVAILABLE), self._database.writing() as session:
                keys.note_use(session, key)


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
