"""Login: whose key a request shows, what it is for, and whether they ask too often."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import HTTPException, TooManyRequests, Unauthorized

from app.config import Settings
from app.store import keys, rates
from app.store.database import UNAVAILABLE, Database
from app.store.keys import Scope
from app.store.rates import WINDOW_SECONDS, Policy, Standing
from app.store.tables import ApiKey

LOCAL_OWNER = "local"
"""Who everything belongs to where there are no keys."""

OUTCOME = "chainrule.login"
"""Where the environment has what came of the login, which is done once for a request."""

NEIGHBOURS = 64
"""Bits of an IPv6 address that tell networks apart; the rest is chosen by whoever has one."""

LONGEST_ADDRESS = 100

FAILURES = "unknown keys from this address"

MOST_SILENCED = 10_000
"""How many addresses a process remembers not to listen to."""


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Parameters
    ----------
    owner : str
    scopes : frozenset of Scope
    standing : Standing or None
        How often they may still ask, where that is limited.
    """

    owner: str
    scopes: frozenset[Scope]
    standing: Standing | None = None


class TooOften(TooManyRequests):
    """The request comes too soon after others.

    Parameters
    ----------
    standing : Standing
    what : str
        What there were too many of.
    """

    def __init__(self, standing: Standing, what: str) -> None:
        limit, seconds = standing.policy.per_minute, standing.retry_seconds
        advice = f"{limit:,} a minute are allowed; try again in {seconds} s"
        super().__init__(f"too many {what}: {advice}", retry_after=seconds)
        self._standing = standing

    def get_headers(self, *arguments: Any, **options: Any) -> list[tuple[str, str]]:
        """Return the headers, with those that say how it stands."""
        mine = rate_headers(self._standing).items()
        return [*super().get_headers(*arguments, **options), *mine]


def rate_headers(standing: Standing) -> dict[str, str]:
    """Say how much of a rate is left, as draft-ietf-httpapi-ratelimit-headers does."""
    policy, full = standing.policy, math.ceil(max(standing.full_in_seconds, 0))
    return {
        "RateLimit-Policy": f'"{policy.name}";q={policy.per_minute};w={WINDOW_SECONDS}',
        "RateLimit": f'"{policy.name}";r={standing.left};t={full}',
    }


class Login:
    """Knows the keys: those of the settings, and those of the database.

    Where there are none at all, and only this machine reaches the service,
    everyone is let in. From the first key on nobody is without one, also when
    every key was revoked.

    Nobody can try one key after another: unknown keys are counted by address,
    in all processes together. A process that has found that there were too many
    from one looks at no key from there for a while.

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
        self._proxies = settings.proxies
        self._silenced: dict[str, tuple[float, Standing]] = {}
        self._failures = Policy("failed-logins", settings.failed_logins_per_minute)
        often = settings.owner_requests_per_minute
        self._requests = Policy("requests", often) if often is not None else None

    def admit(self, environ: dict[str, Any]) -> Caller:
        """Return who makes a request; it counts once, however often this is called for it.

        Raises
        ------
        Unauthorized
            It shows no key that may be used.
        TooOften
            There were too many before it.
        """
        if OUTCOME not in environ:
            try:
                environ[OUTCOME] = self._admit(environ)
            except HTTPException as refusal:
                environ[OUTCOME] = refusal
        outcome = environ[OUTCOME]
        if isinstance(outcome, HTTPException):
            raise outcome
        caller: Caller = outcome
        return caller

    def _admit(self, environ: Mapping[str, Any]) -> Caller:
        caller = self._caller(environ)
        if self._requests is None:
            return caller
        with self._database.writing() as session:
            standing = rates.take(session, self._requests, caller.owner)
        if standing.is_refused:
            raise TooOften(standing, f"requests of {caller.owner!r}")
        return replace(caller, standing=standing)

    def _caller(self, environ: Mapping[str, Any]) -> Caller:
        if self._may_be_open and not self._keys_exist():
            return Caller(LOCAL_OWNER, frozenset(Scope))
        scheme, _, sent = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        token = sent.strip() if scheme.lower() == "bearer" else ""
        found = self._look_up(token, address_of(environ, self._proxies)) if token else None
        if found is None:
            reason = "send `Authorization: Bearer <key>` with a key that the service knows"
            raise Unauthorized(reason, www_authenticate=WWWAuthenticate("bearer"))
        return found

    def _keys_exist(self) -> bool:
        with self._database.reading() as session:
            self._may_be_open = not keys.exist(session)
        return not self._may_be_open

    def _look_up(self, token: str, address: str) -> Caller | None:
        """Return whose key it is, unless too many from there were nobody's."""
        self._check_silence(address)
        found = self._find(token)
        if found is None:
            with self._database.writing() as session:
                standing = rates.take(session, self._failures, address)
            if standing.is_refused:
                self._silence(address, standing)
        return found

    def listens_to(self, environ: Mapping[str, Any]) -> bool:
        """Whether keys are looked at that come from where a request does."""
        if not self._silenced:
            return True
        try:
            self._check_silence(address_of(environ, self._proxies))
        except TooOften:
            return False
        return True

    def _check_silence(self, address: str) -> None:
        """Refuse what comes from an address too soon, without asking the database."""
        if (found := self._silenced.get(address)) is not None:
            since, standing = found
            now = standing.after(time.monotonic() - since)
            if now.left < 1:
                raise TooOften(now, FAILURES)

    def _silence(self, address: str, standing: Standing) -> NoReturn:
        """Listen to no key from an address until it may fail once more."""
        if len(self._silenced) > MOST_SILENCED:
            self._silenced.clear()  # each of them is heard once more
        self._silenced[address] = time.monotonic(), standing
        raise TooOften(standing, FAILURES)

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


def address_of(environ: Mapping[str, Any], proxies: int) -> str:
    """Return where a request comes from: the address before so many proxies, as the first says.

    What a caller wrote into `X-Forwarded-For` by itself stands before that, and is not believed.
    """
    forwarded = [each.strip() for each in environ.get("HTTP_X_FORWARDED_FOR", "").split(",")]
    chain: list[str] = [*filter(None, forwarded), environ.get("REMOTE_ADDR", "")]
    said = chain[max(len(chain) - 1 - proxies, 0)][:LONGEST_ADDRESS]
    try:
        address = ipaddress.ip_address(said)
    except ValueError:
        return said
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, NEIGHBOURS), strict=False))


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
