"""The doorbell: a message is a job's id, and a broker that is down costs moments and no error."""

from __future__ import annotations

import base64
import json
import signal
import time

import psutil
import pytest
import redis
from kombu.exceptions import OperationalError

from app.config import Settings
from app.dispatch import TRAIN, Doorbell, celery, embedded
from tests import servers

QUEUE = "chainrule"
A_FEW_SECONDS = 5


@pytest.fixture
def mortal():
    """A Redis server of the test's own: its URL, and its process."""
    before = psutil.Process().children()
    with servers.redis_server() as url:
        [process] = set(psutil.Process().children()) - set(before)
        yield url, process
        process.send_signal(signal.SIGCONT)


def test_a_message_is_the_id_of_a_job_and_nothing_else(redis_url):
    Doorbell(Settings(broker_url=redis_url)).ring("job_1")
    with redis.Redis.from_url(redis_url) as broker:
        [message] = map(json.loads, broker.lrange(QUEUE, 0, -1))
    arguments, keywords, embed = json.loads(base64.b64decode(message["body"]))
    assert (arguments, keywords) == (["job_1"], {})
    assert not any(embed.values())
    assert message["headers"]["id"] == "job_1"
    assert message["headers"]["task"] == TRAIN
    assert message["content-type"] == "application/json"


def test_the_worker_takes_json_alone_and_runs_what_it_took_at_most_once(redis_url):
    conf = celery(Settings(broker_url=redis_url)).conf
    assert conf.accept_content == ["json"]
    assert not conf.task_acks_late
    assert conf.task_ignore_result
    assert conf.worker_disable_prefetch


@pytest.mark.parametrize("harm", [signal.SIGSTOP, signal.SIGKILL], ids=["frozen", "killed"])
def test_a_broker_that_is_down_costs_at_most_a_few_seconds_and_no_error(mortal, caplog, harm):
    url, process = mortal
    used = Doorbell(Settings(broker_url=url))
    used.ring("job_1")
    process.send_signal(harm)
    for bell in (used, Doorbell(Settings(broker_url=url))):
        begun = time.monotonic()
        bell.ring("job_2")
        assert time.monotonic() - begun < A_FEW_SECONDS
    assert caplog.text.count("a worker will find the job") == 2


def test_a_bell_rings_again_once_the_broker_is_back(mortal):
    url, process = mortal
    bell = Doorbell(Settings(broker_url=url))
    process.suspend()
    bell.ring("job_1")
    process.resume()
    bell.ring("job_2")
    with redis.Redis.from_url(url) as broker:
        found = [json.loads(message)["headers"]["id"] for message in broker.lrange(QUEUE, 0, -1)]
    assert "job_2" in found


@pytest.mark.parametrize(
    "setting", [{"maxmemory": 1}, {"requirepass": "secret"}], ids=["full", "locked"]
)
def test_a_broker_that_refuses_is_no_error_either(mortal, caplog, setting):
    url, _ = mortal
    with redis.Redis.from_url(url) as broker:
        broker.config_set(*setting.popitem())
    Doorbell(Settings(broker_url=url)).ring("job_1")
    assert "a worker will find the job" in caplog.text


@pytest.mark.parametrize("harm", [signal.SIGSTOP, signal.SIGKILL], ids=["frozen", "killed"])
def test_a_ping_tells_soon_whether_the_broker_answers(mortal, harm):
    url, process = mortal
    bell = Doorbell(Settings(broker_url=url))
    bell.ping()
    process.send_signal(harm)
    begun = time.monotonic()
    with pytest.raises(OperationalError):
        bell.ping()
    assert time.monotonic() - begun < A_FEW_SECONDS


def test_without_a_broker_nothing_rings():
    settings = Settings(broker_url="memory://")
    assert embedded(settings)
    bell = Doorbell(settings)
    bell.ring("job_1")
    bell.ping()
    with celery(settings).connection_for_read() as connection:
        assert connection.default_channel.queue_declare(QUEUE).message_count == 0
