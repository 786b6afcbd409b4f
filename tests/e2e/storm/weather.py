"""The seeded hand that does harm, and takes back in time what can be taken back."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

import psutil
import redis

from tests.e2e.storm.fleet import SETTINGS, Fleet, family

LEASE_SECONDS = float(SETTINGS["CHAINRULE_LEASE_SECONDS"])
FIRST_SECONDS = 1.0
GAP_SECONDS = (0.5, 5.0)
"""The least and the most between two harms: a worker takes seconds to start, and the launcher of
`serve` waits up to ten before it starts again what has ended again and again."""

LOOK_SECONDS = 0.05

Later = tuple[float, Callable[[], None]]
"""Something to do after so many seconds."""

Act = Callable[[Fleet, random.Random], Iterable[Later] | None]
"""Does harm; returns what is to be done later, or None where there was nobody to harm."""


@dataclass(frozen=True)
class Harm:
    """One kind of harm.

    Parameters
    ----------
    name : str
    weight : int
        How often it is chosen among those that are possible.
    act : callable
    possible : callable
        Whether the shape has what is harmed.
    """

    name: str
    weight: int
    act: Act
    possible: Callable[[Fleet], bool] = lambda _: True


class Weather:
    """Harm after harm, each chosen by the seed.

    It runs in the main thread, for the kernel ends a server with the thread
    that started it.

    Parameters
    ----------
    fleet : Fleet
    seed : int
    """

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self._fleet = fleet
        self._random = random.Random(f"{seed} weather")  # noqa: S311 - chance, no secret
        self._harms = [harm for harm in HARMS if harm.possible(fleet)]
        self._pending: list[tuple[float, str, Callable[[], None]]] = []
        self.done: Counter[str] = Counter()
        self.log: list[tuple[float, str]] = []

    def blow(self, seconds: float, show: Callable[[], None]) -> None:
        """Do harm for so long, then take back what is still to be taken back."""
        now = time.monotonic()
        over, strike_at = now + seconds, now + FIRST_SECONDS
        while (now := time.monotonic()) < over:
            self._take_back(now)
            if now >= strike_at:
                self._strike()
                strike_at = time.monotonic() + self._random.uniform(*GAP_SECONDS)
            self._fleet.look_after()
            show()
            time.sleep(LOOK_SECONDS)  # between two looks at the clock
        self._take_back(float("inf"))

    def _strike(self) -> None:
        [harm] = self._random.choices(self._harms, [harm.weight for harm in self._harms])
        choice = random.Random(self._random.getrandbits(64))  # noqa: S311 - chance, no secret
        if harm.name in {name for _, name, _ in self._pending}:
            return
        later = harm.act(self._fleet, choice)
        if later is None:
            return
        now = time.monotonic()
        self._pending += [(now + seconds, harm.name, act) for seconds, act in later]
        self.done[harm.name] += 1
        self.log.append((time.time(), harm.name))

    def _take_back(self, now: float) -> None:
        due = [each for each in self._pending if each[0] <= now]
        self._pending = [each for each in self._pending if each[0] > now]
        for _, _, act in sorted(due, key=lambda each: each[0]):
            act()


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _kill_one(find: Callable[[Fleet], list[psutil.Process]], number: signal.Signals) -> Act:
    def act(fleet: Fleet, choice: random.Random) -> Iterable[Later] | None:
        if not (found := find(fleet)):
            return None
        _signal([choice.choice(found)], number)
        return ()

    return act


def _kill_family(fleet: Fleet, choice: random.Random) -> Iterable[Later] | None:
    if not (found := fleet.workers()):
        return None
    _signal(family(choice.choice(found)), signal.SIGKILL)
    return ()


def _freeze(find: Callable[[Fleet], list[psutil.Process]]) -> Act:
    """Stop for longer than the lease: when it wakes up, another has its job."""

    def act(fleet: Fleet, choice: random.Random) -> Iterable[Later] | None:
        if not (found := find(fleet)):
            return None
        frozen = family(choice.choice(found))
        _signal(frozen, signal.SIGSTOP)
        seconds = LEASE_SECONDS + choice.uniform(0.5, 9)
        return [(seconds, lambda: _signal(frozen, signal.SIGCONT))]

    return act


def _stop_then_kill(fleet: Fleet, choice: random.Random) -> Iterable[Later] | None:
    """Stop a worker that waits for messages; the next one it is sent dies with it.

    Redis hands a message to the connection that asked for it; the worker would
    note it down as unacknowledged only after that.
    """
    if not (found := fleet.workers()):
        return None
    frozen = family(choice.choice(found))
    _signal(frozen, signal.SIGSTOP)
    return [(choice.uniform(0.5, 2), lambda: _signal(frozen, signal.SIGKILL))]


def _kill_redis(fleet: Fleet, choice: random.Random) -> Iterable[Later] | None:
    if fleet.redis is None or fleet.redis.process.poll() is not None:
        return None
    fleet.redis.kill()
    return [(choice.uniform(0, 3), fleet.redis.start)]


def _flush_redis(fleet: Fleet, _choice: random.Random) -> Iterable[Later] | None:
    if fleet.redis is None:
        return None
    try:
        with redis.Redis.from_url(fleet.redis.url, socket_timeout=1) as client:
            client.flushall()
    except redis.RedisError:
        return None
    return ()


def _freeze_redis(fleet: Fleet, choice: random.Random) -> Iterable[Later] | None:
    if fleet.redis is None or fleet.redis.process.poll() is not None:
        return None
    frozen = [psutil.Process(fleet.redis.process.pid)]
    _signal(frozen, signal.SIGSTOP)
    return [(choice.uniform(1, 4), lambda: _signal(frozen, signal.SIGCONT))]


def _cut(server: str) -> Act:
    """Drop all that is sent to and from a server, without a word to either."""

    def act(fleet: Fleet, choice: random.Random) -> Iterable[Later] | None:
        fleet.lines[server].cut()
        return [(choice.uniform(1, 6), fleet.lines[server].mend)]

    return act


def _end_postgres(fleet: Fleet, choice: random.Random) -> Iterable[Later] | None:
    """Shut it down at once, which leaves recovery to the next start; or kill all of it."""
    if fleet.postgres is None or fleet.postgres.process.poll() is not None:
        return None
    choice.choice([fleet.postgres.end, fleet.postgres.kill])()
    return [(choice.uniform(0, 3), fleet.postgres.start)]


def _fill_disk(fleet: Fleet, choice: random.Random) -> Iterable[Later]:
    """Take every byte of the home's disk, for a while."""
    filler = fleet.home / "filler"
    handle = os.open(filler, os.O_WRONLY | os.O_CREAT)
    try:
        for piece in (bytes(2**20), bytes(2**12)):
            with suppress(OSError):
                while True:
                    os.write(handle, piece)
    finally:
        os.close(handle)
    return [(choice.uniform(0.3, 2.5), lambda: filler.unlink())]


def _kill_everything(fleet: Fleet, choice: random.Random) -> Iterable[Later] | None:
    """Kill all at one blow: what is in the database has to be enough."""
    servers = [each for each in (fleet.postgres, fleet.redis) if each is not None]
    up = [each for each in servers if each.process.poll() is None]
    _signal(fleet.everything(), signal.SIGKILL)
    for server in up:
        server.kill()
    return [(choice.uniform(0, 2), server.start) for server in up]


def _has_redis(fleet: Fleet) -> bool:
    return fleet.redis is not None


def _has_postgres(fleet: Fleet) -> bool:
    return fleet.postgres is not None


HARMS = (
    Harm("kill an API process", 5, _kill_one(Fleet.servers_of_http, signal.SIGKILL)),
    Harm("end an API process", 1, _kill_one(Fleet.servers_of_http, signal.SIGTERM)),
    Harm("kill a worker's parent", 3, _kill_one(Fleet.workers, signal.SIGKILL)),
    Harm("kill a worker's child", 8, _kill_one(Fleet.trainers, signal.SIGKILL)),
    Harm("kill a worker and its children", 4, _kill_family),
    Harm("end a worker", 4, _kill_one(Fleet.workers, signal.SIGTERM)),
    Harm("freeze a worker past its lease", 3, _freeze(Fleet.workers)),
    Harm("freeze a worker's child past its lease", 3, _freeze(Fleet.trainers)),
    Harm("stop a worker, then kill it", 3, _stop_then_kill),
    Harm(
        "kill the launcher",
        1,
        _kill_one(Fleet.launchers, signal.SIGKILL),
        lambda fleet: fleet.shape == "embedded",
    ),
    Harm("kill Redis", 4, _kill_redis, _has_redis),
    Harm("empty Redis", 4, _flush_redis, _has_redis),
    Harm("freeze Redis", 1, _freeze_redis, _has_redis),
    Harm("cut the line to Redis", 2, _cut("Redis"), _has_redis),
    Harm("kill PostgreSQL", 4, _end_postgres, _has_postgres),
    Harm("cut the line to PostgreSQL", 2, _cut("PostgreSQL"), _has_postgres),
    Harm("fill the disk", 3, _fill_disk, lambda fleet: fleet.has_small_disk),
    Harm("kill everything", 1, _kill_everything),
)
