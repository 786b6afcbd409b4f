"""The processes of a service, and one parent that keeps them running.

``serve`` on a laptop is the API and one worker as separate processes under a
`Supervisor`; in production a container runs one of the two commands itself.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

from app.config import Settings, child_environment

log = logging.getLogger(__name__)

CONNECTIONS = 1024
"""How many requests a process takes in at once; those over that wait to be accepted."""

HEAD_BYTES = 1 << 16
"""The most that a request's first line and headers take."""

GRACE_SECONDS = 15.0
"""How long a process may take to end: a worker writes its checkpoint meanwhile."""

INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
STABLE_SECONDS = 30.0
FIRST_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 10.0
LOOK_SECONDS = 0.1
SET_PARENT_DEATH_SIGNAL = 1
"""What Linux calls ``PR_SET_PDEATHSIG``."""


def api_command(settings: Settings) -> list[str]:
    """Return the command that serves HTTP."""
    options = {
        "interface": "asgi",
        "host": settings.host,
        "port": str(settings.port),
        "workers": str(settings.api_workers),
        "backpressure": str(CONNECTIONS),
        "http1-buffer-size": str(HEAD_BYTES),
        "workers-kill-timeout": "10",
        "log-level": "error",
    }
    flags = ["--factory", "--respawn-failed-workers", "--no-ws"]
    named = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "granian", *named, *flags, "app.factory:serve"]


def worker_command() -> list[str]:
    """Return the command that runs training jobs."""
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    return [sys.executable, "-m", "celery", "--app=worker.celery_app", "--quiet", "worker", *quiet]


def become(command: list[str]) -> None:
    """Replace this process by ``command``, so that signals reach it without a middleman."""
    os.execve(command[0], command, child_environment())  # noqa: S606 - a command of ours


@dataclass
class Child:
    """A process that is started again when it ends by itself."""

    name: str
    command: list[str]
    backoff: float
    process: subprocess.Popen[bytes] | None = None
    start_at: float = 0.0


class Supervisor:
    """Keeps processes running until told to stop, and leaves none behind.

    Each child leads its own process group, so that a Ctrl-C reaches only this
    parent, which then ends them in order; on Linux the kernel ends them if
    the parent is killed.

    Parameters
    ----------
    commands : dict of str to list of str
        Commands by name.
    environment : dict of str to str
    output : file, optional
        Where their output goes; to this process's own unless given.
    """

    def __init__(
        self,
        commands: dict[str, list[str]],
        environment: dict[str, str],
        output: IO[bytes] | None = None,
    ) -> None:
        self._environment, self._output = environment, output
        self._children = [
            Child(name, command, FIRST_BACKOFF_SECONDS) for name, command in commands.items()
        ]
        self._over = False

    def start(self) -> None:
        """Start every process."""
        for child in self._children:
            self._start(child)

    def _start(self, child: Child) -> None:
        child.start_at = time.monotonic()
        child.process = subprocess.Popen(  # noqa: S603 - a command of ours
            child.command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            process_group=0,
            preexec_fn=_die_with_parent(),
        )

    def watch(self) -> None:
        """Restart what ends, with growing pauses, until `stop` is called."""
        while not self._over:
            for child in self._children:
                self._look_after(child)
            time.sleep(LOOK_SECONDS)

    def _look_after(self, child: Child) -> None:
        if child.process is None:
            if time.monotonic() >= child.start_at:
                self._start(child)
        elif child.process.poll() is not None:
            self._bury(child, child.process)

    def _bury(self, child: Child, process: subprocess.Popen[bytes]) -> None:
        """Kill what the process left behind, and set when to start it again."""
        ended = time.monotonic()
        if ended - child.start_at > STABLE_SECONDS:
            child.backoff = FIRST_BACKOFF_SECONDS
        pause = child.backoff
        log.error("%s ended with %s; restarting in %.1f s", child.name, process.returncode, pause)
        _end_group(process, signal.SIGKILL)
        child.process, child.start_at = None, ended + pause
        child.backoff = min(2 * pause, MAX_BACKOFF_SECONDS)

    def alive(self) -> bool:
        """Whether every process is running."""
        return all(child.process and child.process.poll() is None for child in self._children)

    def stop(self) -> None:
        """End `watch` soon.

        A signal's handler may call it: it takes no lock that `watch`, which the
        handler interrupts, might hold.
        """
        self._over = True

    def end(self) -> None:
        """Ask every process to end, wait for it, and kill what does not."""
        self.stop()
        processes = [child.process for child in self._children if child.process is not None]
        for process in processes:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        for process in processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("process %s did not end in time; killing it", process.pid)
            _end_group(process, signal.SIGKILL)
            process.wait()


def _end_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _die_with_parent() -> Callable[[], None] | None:
    """Return what a child runs before its command so that it does not outlive its parent."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


def end_with_parent() -> None:
    """Have the kernel kill this process once its parent has died, if it is not dead already.

    A process of the API whose parent was killed would hold the port for ever,
    so that no other could be started. (`is_alive` of a parent process cannot tell: it waits for the
    end of a pipe that later children hold open as well.)
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        os.kill(os.getpid(), signal.SIGKILL)


def is_free(host: str, port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket(_family(host)) as probe:
        return probe.connect_ex((host, port)) != 0


def with_free_port(settings: Settings) -> Settings:
    """Return the settings with a port that nobody listens on now."""
    with socket.socket(_family(settings.host)) as probe:
        probe.bind((settings.host, 0))
        return settings.model_copy(update={"port": probe.getsockname()[1]})


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


@contextmanager
def interrupted(act: Callable[[], None]) -> Iterator[None]:
    """Have SIGINT and SIGTERM call ``act`` for the length of a ``with`` block."""
    before = [signal.signal(number, lambda *_: act()) for number in INTERRUPTS]
    try:
        yield
    finally:
        for number, handler in zip(INTERRUPTS, before, strict=True):
            signal.signal(number, handler)
