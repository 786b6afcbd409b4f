"""The queue: the one Celery configuration, and the doorbell.

A job is its row in the database. The message only says "look at this one";
it may be lost, doubled or late, because a claim is one guarded UPDATE and the
worker's reconciler rings again for rows that nobody looked at.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from celery import Celery
from kombu.exceptions import OperationalError
from kombu.transport import memory
from redis import Redis, RedisError

from app.config import Settings

log = logging.getLogger(__name__)

TRAIN = "chainrule.train"
QUEUE = "chainrule"

ALIVE = Path(tempfile.gettempdir()) / "chainrule-worker-alive"
"""Touched by a worker's reconciler after every look that went well, for whoever watches over a
container."""

_ANSWER_SECONDS = 1.0
"""How long workers have to answer when they are asked who is there."""

_SOCKET_SECONDS = 2.0

_CHECK_SECONDS = 3
"""How often a worker makes sure that the answer it waits for can still come: one whose line was cut
without a word would wait for ever."""

_LOAD_SECONDS = 60.0
"""How long a process that trains may take to start. After Celery's four seconds a machine with more
to do than it can would have each ended and started again, for ever."""

_LOOK_SECONDS = 0.02
"""How often the embedded worker looks into its own queue; kombu's default is once a second."""


class OwnQueue(memory.Transport):
    """Messages within one process.

    Celery waits two seconds for a message before it looks whether it is asked
    to end, and twice when it is; here it looks at once.
    """

    default_connection_params: ClassVar[dict[str, str]] = {}  # there is no host to miss

    def drain_events(self, connection: Any, timeout: Any = None, **_: Any) -> None:  # noqa: ARG002 - Celery's is too long
        """Deliver a message, or raise a timeout soon."""
        super().drain_events(connection, _LOOK_SECONDS)  # type: ignore[no-untyped-call]  # kombu ships no types


def celery(settings: Settings) -> Celery:
    """Return the Celery application that the API rings and the worker runs."""
    app = Celery("chainrule", broker=settings.broker_url, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_publish_retry=False,
        task_acks_late=False,
        task_default_queue=QUEUE,
        worker_concurrency=settings.worker_concurrency,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=not embedded(settings),
        worker_pool_start_method="spawn",
        worker_proc_alive_timeout=_LOAD_SECONDS,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,  # a Redis that cannot save answers even a ping with one
        broker_transport=f"{__name__}:{OwnQueue.__name__}" if embedded(settings) else None,
        broker_transport_options=_memory_options() if embedded(settings) else _redis_options(),
    )
    return app


def _memory_options() -> dict[str, object]:
    return {"polling_interval": _LOOK_SECONDS}


def _redis_options() -> dict[str, object]:
    """Bound how long a Redis that is down or frozen can hold anyone up."""
    return {
        "max_retries": 0,
        "socket_timeout": _SOCKET_SECONDS,
        "socket_connect_timeout": _SOCKET_SECONDS,
        "socket_keepalive": True,
        "health_check_interval": _CHECK_SECONDS,
    }


def embedded(settings: Settings) -> bool:
    """Whether the worker looks into the database by itself, so that no broker is needed."""
    return settings.broker_url.startswith("memory://")


def workers(settings: Settings) -> list[str]:
    """Ask over the broker who is there; none answers over a broker that is down."""
    app = celery(settings)
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=0)
            answers = app.control.ping(timeout=_ANSWER_SECONDS, connection=connection)
    except (OperationalError, RedisError):
        return []
    return sorted(name for answer in answers for name in answer)


@contextmanager
def redis_client(settings: Settings) -> Iterator[Redis]:
    """Open the connection to Redis that API and workers would have."""
    with celery(settings).connection_for_read() as connection:
        connection.ensure_connection(max_retries=0)
        yield connection.default_channel.client


class Doorbell:
    """Tells the workers to look at a job.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self._silent = embedded(settings)
        self._celery = celery(settings)

    def ring(self, job_id: str) -> None:
        """Ring for a job whose row is committed; a broker that is down costs time, not the job."""
        if self._silent:
            return
        try:
            self._celery.send_task(TRAIN, [job_id], task_id=job_id, retry=False)
        except OperationalError as error:
            log.warning("the broker does not answer; a worker will find the job: %s", error)

    def ping(self) -> None:
        """Raise what the broker raises when it does not answer."""
        if not self._silent:
            with self._celery.connection_for_write() as connection:
                connection.ensure_connection(max_retries=0)
