"""What Redis says of itself is read, whether it is well, ill, frozen or gone."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

import psutil
import pytest
import redis

from app import dispatch
from app.config import Settings
from app.dispatch import Doorbell
from app.doctor import broker
from app.doctor.checks import examine
from app.doctor.report import CHECKS
from tests import servers
from tests.waiting import wait_until

BROKER = [check for check in CHECKS if check.name == "broker"]


def look(url):
    return {each.name: each for each in examine(BROKER, Settings(broker_url=url))}


def test_without_a_broker_there_is_nothing_to_look_at():
    found = look("memory://")
    assert {name: each.state for name, each in found.items()} == {"broker": "ok"}


def test_a_redis_that_is_well_says_how_it_is(redis_url):
    doorbell = Doorbell(Settings(broker_url=redis_url))
    for number in range(3):
        doorbell.ring(f"job_{number}")
    with redis.Redis.from_url(redis_url) as client:
        before = sorted(client.keys())
        found = look(redis_url)
        assert sorted(client.keys()) == before
    assert {each.state for each in found.values()} == {"ok"}
    assert found["broker"].fact.startswith("Redis ")
    assert "noeviction" in found["broker memory"].fact
    assert found["broker backlog"].fact.startswith("3 messages")


def test_a_redis_that_throws_messages_away_is_advised_not_to(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            found = look(redis_url)["broker memory"]
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    assert found.state == "warning"
    assert "noeviction" in found.advice


def test_a_redis_that_is_full_is_told(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory", client.info()["used_memory"] // 2)
        try:
            found = look(redis_url)["broker memory"]
        finally:
            client.config_set("maxmemory", 0)
    assert found.state == "warning"
    assert "maxmemory" in found.advice


def test_a_redis_that_cannot_save_is_wrong(tmp_path):
    with servers.redis_server() as url, redis.Redis.from_url(url) as client:
        folder = tmp_path / "gone"
        folder.mkdir()
        client.config_set("dir", str(folder))
        folder.rmdir()
        client.set("a", "b")
        client.bgsave()
        wait_until(lambda: client.info()["rdb_last_bgsave_status"] != "ok")
        found = look(url)["broker disk"]
    assert found.state == "wrong"
    assert "MISCONF" in found.fact
    assert "save" in found.advice


def test_a_replica_is_no_broker(redis_url):
    with servers.redis_server() as url, redis.Redis.from_url(url) as client:
        port = urlsplit(redis_url).port
        client.replicaof("127.0.0.1", port)
        found = look(url)["broker"]
    assert found.state == "wrong"
    assert "primary" in found.advice


def test_a_redis_that_is_gone_is_wrong_without_its_password():
    found = look(f"redis://:hunter2@127.0.0.1:{servers.free_port()}/0")["broker"]
    assert found.state == "wrong"
    assert "CHAINRULE_BROKER_URL" in found.advice
    assert "hunter2" not in found.fact


def test_a_redis_that_is_frozen_does_not_hang_the_doctor():
    with servers.redis_server() as url:
        with redis.Redis.from_url(url) as client:
            server = psutil.Process(client.info()["process_id"])
        server.suspend()
        begin = time.monotonic()
        try:
            found = look(url)
            assert time.monotonic() - begin < 6
            assert dispatch.workers(Settings(broker_url=url)) == []
        finally:
            server.resume()
        assert time.monotonic() - begin < 12
    assert {name: each.state for name, each in found.items()} == {"broker": "wrong"}


@pytest.mark.parametrize("status", ["aof_last_write_status", "aof_last_bgrewrite_status"])
def test_an_append_only_file_that_cannot_be_written_is_wrong(status):
    assert broker._persistence({status: "err"}).state == "wrong"
    assert broker._persistence({status: "ok", "aof_enabled": 1}).fact == "append-only file on"


def test_nobody_answers_where_no_worker_is(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        assert dispatch.workers(Settings(broker_url=redis_url)) == []
        assert set(client.keys()) <= {b"_kombu.binding_deadlines"}  # a worker keeps it as well
