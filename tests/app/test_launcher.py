"""The launcher keeps processes running, and when it ends none of them and of theirs is left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress

import psutil
import pytest

from app import launcher
from app.config import Settings, child_environment
from app.launcher import Supervisor
from tests.waiting import PATIENCE_SECONDS, wait_until

OBEDIENT = "import time; time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('deaf', flush=True); time.sleep(600)"
)
PARENT = (
    "import subprocess, sys, time;"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    "print('born', flush=True); time.sleep(600)"
)
FLEETING = "print('here', flush=True)"


@pytest.fixture
def supervise(tmp_path):
    """Supervise Python programs by name, from a thread; all are ended with the test."""
    supervisors = []

    def begin(**programs):
        output = (tmp_path / "output").open("wb")
        commands = {name: [sys.executable, "-c", code] for name, code in programs.items()}
        supervisor = Supervisor(commands, child_environment(), output)
        supervisor.start()
        thread = threading.Thread(target=supervisor.watch)
        thread.start()
        supervisors.append((supervisor, thread, output))
        return supervisor

    yield begin
    for supervisor, thread, output in supervisors:
        supervisor.stop()
        thread.join()
        supervisor.end()
        output.close()


@pytest.fixture
def said(tmp_path):
    """Count the lines that the programs printed."""
    return lambda: len((tmp_path / "output").read_text().splitlines())


def children():
    """Return every process below this one."""
    return set(psutil.Process().children(recursive=True))


def is_gone(process):
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_what_ends_by_itself_is_started_again_ever_more_rarely(
    supervise, said, monkeypatch, caplog
):
    monkeypatch.setattr(launcher, "FIRST_BACKOFF_SECONDS", 0.05)
    supervise(fleeting=FLEETING)
    wait_until(lambda: said() >= 4)
    pauses = [record.args[2] for record in caplog.records if record.name == "app.launcher"]
    assert pauses[:3] == [0.05, 0.1, 0.2]
    assert "fleeting ended with 0" in caplog.text


def test_a_pause_holds_up_nobody_else(supervise, monkeypatch, caplog):
    monkeypatch.setattr(launcher, "FIRST_BACKOFF_SECONDS", 600.0)
    before = children()  # of other tests: some may be zombies
    supervisor = supervise(fleeting=FLEETING, other=OBEDIENT)
    wait_until(lambda: "fleeting ended" in caplog.text)
    [other] = children() - before
    other.kill()
    wait_until(lambda: "other ended with -9" in caplog.text)
    assert not supervisor.alive()


def test_what_a_dead_process_leaves_behind_is_killed_before_it_is_started_again(supervise, said):
    before = children()
    supervise(parent=PARENT)
    wait_until(lambda: said() == 1)
    [parent, orphan] = sorted(children() - before, key=lambda process: process.pid)
    parent.kill()
    wait_until(lambda: is_gone(orphan))
    wait_until(lambda: said() == 2)


def test_at_the_end_nothing_is_left(supervise, said):
    before = children()
    supervisor = supervise(parent=PARENT, obedient=OBEDIENT)
    wait_until(lambda: said() == 1)
    family = children() - before
    assert len(family) == 3
    assert supervisor.alive()
    supervisor.end()
    wait_until(lambda: all(map(is_gone, family)))


def test_what_does_not_listen_is_killed_in_the_end(supervise, said, monkeypatch, caplog):
    monkeypatch.setattr(launcher, "GRACE_SECONDS", 0.5)
    supervisor = supervise(stubborn=STUBBORN)
    wait_until(lambda: said() == 1)
    supervisor.end()
    assert not supervisor.alive()
    assert "did not end in time" in caplog.text


def test_a_signal_is_heard_for_the_length_of_a_block_alone():
    heard = []
    before = signal.getsignal(signal.SIGTERM)
    with launcher.interrupted(lambda: heard.append(1)):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert heard == [1, 1]
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_is_taken_while_somebody_listens(host):
    settings = launcher.with_free_port(Settings(host=host))
    assert launcher.is_free(host, settings.port)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, settings.port), family=family):
        assert not launcher.is_free(host, settings.port)
        assert launcher.with_free_port(settings).port != settings.port


SIBLINGS = """
import multiprocessing, os, sys, time
from pathlib import Path
from app.launcher import end_with_parent

def first(folder):
    (folder / "first").write_text(str(os.getpid()))
    while not (folder / "go on").exists():
        time.sleep(0.01)
    end_with_parent()
    time.sleep(600)

def second(folder):
    (folder / "second").write_text(str(os.getpid()))
    time.sleep(600)

fork = multiprocessing.get_context("fork")
for work in (first, second):
    fork.Process(target=work, args=(Path(sys.argv[1]),)).start()
time.sleep(600)
"""
"""A parent of two, the first of which looks at its parent late; the second has the first's pipe."""


def test_one_whose_parent_died_before_it_looked_ends_all_the_same(tmp_path):
    parent = subprocess.Popen(
        [sys.executable, "-c", SIBLINGS, str(tmp_path)], env=child_environment()
    )
    files = [tmp_path / name for name in ("first", "second")]
    wait_until(lambda: all(file.exists() and file.read_text() for file in files))
    first, second = (psutil.Process(int(file.read_text())) for file in files)
    try:
        parent.kill()
        parent.wait()
        (tmp_path / "go on").touch()
        first.wait(PATIENCE_SECONDS)
    finally:
        for process in (first, second):
            with suppress(psutil.NoSuchProcess):
                process.kill()


def test_the_api_is_served_as_the_settings_say():
    command = launcher.api_command(Settings(port=8123, api_workers=2, api_threads=5))
    assert {"--port=8123", "--workers=2", "--interface=asgi"} <= set(command)
    assert "--respawn-failed-workers" in command
