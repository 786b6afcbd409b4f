"""A job as it happens: Server-Sent Events, each with an id from which a client goes on.

An id says how much of a job is known once its event is: the version of the
last `status` or `progress`, and the epoch of the last `point`. Points come
before the news of the job that were written with them, so that the last
event is how the job ended, and an id of either kind leaves nothing out.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import orjson
from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from werkzeug.exceptions import ServiceUnavailable

from app.api import schemas
from app.api.drawings import wanted_form
from app.api.jobs import point_of, resource
from app.api.services import Services, owner, reading, services
from app.api.waiting import looks
from app.store import jobs
from app.store.database import UNAVAILABLE
from app.store.errors import NotFoundError
from app.store.lifecycle import TERMINAL
from app.store.tables import CurvePoint, Job

log = logging.getLogger(__name__)

MEDIA_TYPE = "text/event-stream"
AGAIN_SECONDS = 1
"""After so long a client comes back whose stream was closed."""
FULL_SECONDS = 5
"""The same, where there was no place for it."""
KEEP_ALIVE_SECONDS = 15
"""After so long without an event a comment is sent, lest a proxy takes the stream for dead."""
POINTS_AT_ONCE = 500
"""How many points of a long curve are in memory."""

bp = APIBlueprint("events", __name__, url_prefix="/v1/jobs", abp_tags=[Tag(name="Jobs")])


@bp.get("/<job_id>/events", responses={200: schemas.JOB_EVENTS, 204: None})
def follow(path: schemas.JobPath, header: schemas.EventsHeader) -> Response:
    """Follow a job to its end as Server-Sent Events; 204 for one who has heard of the end."""
    wanted_form([MEDIA_TYPE])
    with reading() as session:
        job = jobs.get(session, owner(), path.job_id)
    known = Position.read(header.last_event_id, job)
    if job.status in TERMINAL and known.version == job.version:
        return Response(status=204)
    places, seconds = services().waiting, services().settings.stream_limit_seconds
    if not places.acquire(blocking=False):
        detail = "as many requests are held open as the service can spare threads for; try again"
        raise ServiceUnavailable(f"{detail}, or poll the job", retry_after=FULL_SECONDS)
    stream = Stream(services(), job, known)
    response = Response(stream.run(seconds), content_type=MEDIA_TYPE)
    response.call_on_close(places.release)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    return response


@dataclass(frozen=True)
class Position:
    """How much of a job a client knows.

    Parameters
    ----------
    version : int
        Of the job; 0 for nothing.
    epoch : int
        Of the last point; 0 for none.
    """

    version: int = 0
    epoch: int = 0

    @classmethod
    def read(cls, sent: str, job: Job) -> Self:
        """Read an id; one that this job cannot have sent is the beginning."""
        found = re.fullmatch(r"([0-9]{1,18})[.]([0-9]{1,18})", sent)
        if found is None:
            return cls()
        version, epoch = map(int, found.groups())
        return cls(version, epoch) if version <= job.version and epoch <= job.epochs else cls()

    def __str__(self) -> str:
        return f"{self.version}.{self.epoch}"


class Stream:
    """What a client is told of a job.

    Parameters
    ----------
    services : Services
    job : Job
        As it is now.
    known : Position
        How much of it the client knows already.
    """

    def __init__(self, services: Services, job: Job, known: Position) -> None:
        self._services, self._owner, self._job_id = services, job.owner, job.id
        self._known = known
        self._status = job.status if known.version == job.version else None

    def run(self, seconds: float) -> Iterator[bytes]:
        """Yield events as they happen until the job has ended, or for so long.

        Between them come empty pieces: a server notices only when it sends
        that nobody listens any more, and then gives the place back.
        """
        yield f"retry: {1000 * AGAIN_SECONDS}\n\n".encode()
        told_at = time.monotonic()
        try:
            for changed in looks(self._services, seconds):
                for events in self._news() if changed else ():
                    yield events
                    told_at = time.monotonic()
                if self._status in TERMINAL:
                    return
                if time.monotonic() - told_at >= KEEP_ALIVE_SECONDS:
                    yield b": nothing new\n\n"
                    told_at = time.monotonic()
                yield b""
        except NotFoundError:
            log.info("the job was deleted while somebody followed it")
        except UNAVAILABLE as error:
            log.warning("the database does not answer; a stream is closed: %s", error)

    def _news(self) -> Iterator[bytes]:
        """Yield what the client does not know yet, in pieces: points, then the job."""
        is_all = False
        while not is_all:
            with self._services.database.reading(self._owner) as session:
                job = jobs.get(session, self._owner, self._job_id)
                if job.version == self._known.version:
                    return
                points = jobs.curve(session, job.id, self._known.epoch, POINTS_AT_ONCE)
            told, is_all = [self._point(row) for row in points], len(points) < POINTS_AT_ONCE
            if is_all:
                told.append(self._change(job))
            yield b"".join(told)

    def _point(self, row: CurvePoint) -> bytes:
        self._known = replace(self._known, epoch=row.epoch)
        return self._event("point", orjson.dumps(point_of(row)))

    def _change(self, job: Job) -> bytes:
        """Tell of the whole job when its status is another one, else of its progress alone."""
        self._known = replace(self._known, version=job.version)
        described, before = resource(job), self._status
        self._status = job.status
        if job.status == before:
            return self._event("progress", described.progress.model_dump_json().encode())
        return self._event("status", described.model_dump_json().encode())

    def _event(self, name: str, data: bytes) -> bytes:
        return f"event: {name}\nid: {self._known}\ndata: ".encode() + data + b"\n\n"
