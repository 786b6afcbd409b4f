"""What the machine has is compared with what the settings want of it."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from types import SimpleNamespace

import pytest

from app.config import Settings
from app.doctor import host
from app.doctor.checks import State
from app.doctor.mounts import network_file_system
from tests import servers


def test_a_setting_with_a_slip_of_the_pen_is_named(monkeypatch):
    monkeypatch.setenv("CHAINRULE_DATABSE_URL", "postgresql://ada:hunter2@db/chain")
    [found] = host.settings_set(Settings())
    assert found.state is State.WARNING
    assert "CHAINRULE_DATABSE_URL" in found.advice
    assert "hunter2" not in found.advice + found.fact


@pytest.mark.parametrize(("wish", "state"), [("8", "warning"), ("2", "ok"), (None, "ok")])
def test_a_wish_for_threads_that_is_not_heard_is_named(monkeypatch, wish, state):
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    if wish:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", wish)
    [found] = host.python(Settings(blas_threads=2))
    assert found.state == state
    assert "with 2 threads" in found.fact
    assert ("CHAINRULE_BLAS_THREADS" in found.advice) == (state == "warning")


def test_jobs_that_may_take_more_memory_than_there_is_are_warned_of(monkeypatch, tmp_path):
    [found] = host.memory(Settings(job_memory_bytes=2**30))
    assert found.state is State.OK
    [found] = host.memory(Settings(job_memory_bytes=2**40, worker_concurrency=256))
    assert found.state is State.WARNING
    assert "CHAINRULE_WORKER_CONCURRENCY" in found.advice
    (tmp_path / "limit").write_text(f"{2**29}\n")
    monkeypatch.setattr(host, "CGROUP_LIMIT", tmp_path / "limit")
    [found] = host.memory(Settings(job_memory_bytes=2**30))
    assert found.state is State.WARNING


@pytest.mark.parametrize(
    ("upload", "unpacked", "state"),
    [(1, 1, "ok"), (1, 2**60, "warning"), (2**60, 1, "wrong")],
)
def test_a_disk_without_room_for_an_upload_is_named(tmp_path, upload, unpacked, state):
    limits = {"upload_limit_bytes": upload, "unpacked_limit_bytes": unpacked}
    found = list(host.disk(Settings(home=tmp_path / "not" / "there", **limits)))
    assert {each.state for each in found} == {state}
    assert all(str(tmp_path) in each.fact for each in found)
    assert list(tmp_path.iterdir()) == []


def test_room_is_wanted_for_what_an_upload_takes_while_it_is_read(tmp_path, monkeypatch):
    gigabyte, disk = 10**9, SimpleNamespace(free=0)
    monkeypatch.setattr(host.shutil, "disk_usage", lambda _: disk)
    limits = {"upload_limit_bytes": gigabyte, "unpacked_limit_bytes": 4 * gigabyte}
    settings = Settings(home=tmp_path, cell_limit=gigabyte // 2, **limits)
    # body, file, unpacked; strings with their offsets; values, and text that stays text
    whole = (1 + 1 + 4) * gigabyte + (4 + 2) * gigabyte + (4 + 4) * gigabyte
    for disk.free, states in ((whole, ["ok", "ok"]), (whole - 1, ["warning", "ok"])):
        assert [found.state for found in host.disk(settings)] == states
    disk.free = 8 * gigabyte - 1
    assert [found.state for found in host.disk(settings)] == ["warning", "warning"]


def test_a_storage_elsewhere_has_no_local_disk_but_copies(tmp_path):
    small = {"upload_limit_bytes": 1, "unpacked_limit_bytes": 1, "storage_url": "s3://bucket"}
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "table").write_bytes(bytes(1000))
    for limit, state in ((2000, "ok"), (2**60, "warning")):
        found = list(host.disk(Settings(home=tmp_path, cache_limit_bytes=limit, **small)))
        assert [each.name for each in found] == ["disk", "copies"]
        assert [each.state for each in found] == ["ok", state]
        assert found[1].fact.startswith("1.0 kB of ")
        assert ("CHAINRULE_CACHE_LIMIT_BYTES" in found[1].advice) == (state == "warning")


class _Health(http.server.BaseHTTPRequestHandler):
    body = b"{}"

    def do_GET(self):  # noqa: N802 - as the library calls it
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ("body", "state"), [({"status": "ok"}, "ok"), ({"hello": "world"}, "warning")]
)
def test_who_listens_at_the_port_is_told_apart(monkeypatch, body, state):
    monkeypatch.setattr(_Health, "body", json.dumps(body).encode())
    with http.server.HTTPServer(("127.0.0.1", 0), _Health) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        [found] = host.port(Settings(port=server.server_port))
        server.shutdown()
        thread.join()
    assert found.state == state
    assert ("CHAINRULE_PORT" in found.advice) == (state == "warning")


def test_a_port_is_free_or_taken_by_somebody_silent(monkeypatch):
    [found] = host.port(Settings(port=servers.free_port()))
    assert (found.state, "free" in found.fact) == (State.OK, True)
    monkeypatch.setattr(host, "ASK_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        [found] = host.port(Settings(port=silent.getsockname()[1]))
    assert found.state is State.WARNING


def test_the_mount_that_holds_a_file_says_where_it_is(monkeypatch, tmp_path):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda rw\n"
        "2 1 0:9 / /mnt/a\\040share rw,relatime shared:1 - nfs4 server:/ rw\n"
        "3 2 8:2 / /mnt/a\\040share/local rw - xfs /dev/sdb rw\n"
        "4 1 0:5 / /over rw - ext4 /dev/sdc rw\n"
        "5 1 0:6 / /over rw - cifs //nas/over rw\n"
    )
    monkeypatch.setattr("app.doctor.mounts.MOUNTS", mounts)
    kinds = {
        "/chain.db": None,
        "/mnt/a share/chain.db": "nfs4",
        "/mnt/a share/local/chain.db": None,
        "/mnt/a sharing/chain.db": None,
        "/over/chain.db": "cifs",
    }
    assert {file: network_file_system(host.Path(file)) for file in kinds} == kinds
