"""The broker: whether Redis answers, has room, and takes what is sent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from rich.filesize import decimal

from app import dispatch
from app.config import Settings
from app.doctor.checks import Finding, State, ok

FULL_SHARE = 0.9

Info = dict[str, Any]


def look(settings: Settings) -> Iterator[Finding]:
    """Look at Redis, where there is one, by what it says of itself; nothing is written."""
    if dispatch.embedded(settings):
        yield ok("broker", "none is needed: the worker looks into the database")
        return
    with dispatch.redis_client(settings) as client:
        begin = time.monotonic()
        info = client.info()
        milliseconds = 1000 * (time.monotonic() - begin)
        yield _role(info, f"Redis {info['redis_version']} answers within {milliseconds:.1f} ms")
        yield _memory(info)
        yield _persistence(info)
        waiting = client.llen(dispatch.QUEUE)
        yield ok("broker backlog", f"{waiting} messages that no worker has taken")


def _role(info: Info, fact: str) -> Finding:
    if info.get("role") == "slave":
        advice = "point CHAINRULE_BROKER_URL to the primary: a replica takes no messages"
        return Finding("broker", State.WRONG, f"{fact}, as a replica", advice)
    return ok("broker", fact)


def _memory(info: Info) -> Finding:
    used, limit, policy = info["used_memory"], info.get("maxmemory"), info["maxmemory_policy"]
    fact = f"{decimal(used)} of {decimal(limit) if limit else 'no limit'}, {policy}"
    if limit and used > FULL_SHARE * limit:
        advice = "raise maxmemory: a Redis that is full refuses messages"
        return Finding("broker memory", State.WARNING, fact, advice)
    if policy != "noeviction":
        advice = "set maxmemory-policy to noeviction: another one throws messages away when full"
        return Finding("broker memory", State.WARNING, fact, advice)
    return ok("broker memory", fact)


def _persistence(info: Info) -> Finding:
    failed = [name for name in _WRITES if info.get(name, "ok") != "ok"]
    if failed:
        fact = f"Redis cannot save ({', '.join(failed)}), and may answer MISCONF to every message"
        advice = "see its log and free its disk, or set `save ''`: the queue is in the database"
        return Finding("broker disk", State.WRONG, fact, advice)
    return ok("broker disk", f"append-only file {'on' if info.get('aof_enabled') else 'off'}")


_WRITES = ("rdb_last_bgsave_status", "aof_last_bgrewrite_status", "aof_last_write_status")
