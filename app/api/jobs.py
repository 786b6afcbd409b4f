"""Jobs: submit, follow, cancel, pause, resume, delete."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal, cast, get_args

import numpy as np
from flask import Response, request, url_for
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from sqlalchemy.orm import Session

from app.api import charts, schemas
from app.api.conditional import answer, answer_tagged, hold, unless_changed
from app.api.datasets import file_of
from app.api.errors import BodyError
from app.api.once import once
from app.api.pages import answer_page
from app.api.services import owner, reading, services, writing
from app.store import datasets, jobs
from app.store.lifecycle import TERMINAL
from app.store.tables import CurvePoint, Dataset, Job
from engine.data.formats.stored import StoredRows
from engine.data.profiling import ColumnProfile
from engine.data.series import name_ties
from engine.errors import SpecError, TiesError
from engine.footprint import check_multiply_adds, multiply_adds, place_rows
from engine.metrics import ClassificationMetric, RegressionMetric
from engine.resolution import resolve
from engine.spec import ResolvedSpec, TrainingSpec, ValidationDataset, ValidationPart
from engine.training import StopReason

TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

bp = APIBlueprint("jobs", __name__, url_prefix="/v1/jobs", abp_tags=[Tag(name="Jobs")])


@bp.post("", responses={201: schemas.Job})
def submit(body: schemas.JobRequest) -> Response:
    """Queue a training job."""

    def work(session: Session) -> Response:
        job = _submit(session, body)
        return answer(resource(job), 201, url_for("jobs.show", job_id=job.id))

    try:
        response = once(work)
    except TiesError as error:  # the file is not read while the transaction is open
        raise SpecError(error.path, f"{error.reason}; {_ties(body.dataset, error)}") from error
    services().doorbell.ring(response.headers["Location"].rsplit("/", 1)[-1])
    return response


def _ties(dataset_id: str, error: TiesError) -> str:
    """Say which rows are in one place."""
    with file_of(dataset_id) as file:
        rows = np.arange(error.within)
        order = StoredRows(file).take(rows, [error.column]).column(error.column)
    return name_ties(order, error.count)


def _submit(session: Session, body: schemas.JobRequest) -> Job:
    dataset = datasets.get(session, owner(), body.dataset)
    validation = None
    if isinstance(body.validation, ValidationDataset):
        validation = datasets.get(session, owner(), body.validation.dataset)
    asked = TrainingSpec.model_validate(
        body.model_dump(include=set(TrainingSpec.model_fields), exclude_unset=True)
    )
    spec = resolve(
        asked,
        _profile(dataset),
        dataset.rows,
        services().settings.parameter_budget,
        _profile(validation) if validation is not None else (),
    )
    spec = place_rows(
        spec,
        _profile(dataset),
        dataset.rows,
        services().settings.job_memory_bytes,
        validation.rows if validation is not None else 0,
    )
    count = multiply_adds(
        spec, _profile(dataset), dataset.rows, validation.rows if validation is not None else 0
    )
    check_multiply_adds(count, services().settings.job_multiply_adds)
    return jobs.submit(
        session,
        owner=owner(),
        dataset_id=dataset.id,
        validation_dataset_id=validation.id if validation is not None else None,
        spec={"dataset": dataset.id, **spec.model_dump(mode="json")},
        epochs=spec.training.epochs,
        name=body.name,
        metadata=body.metadata,
        priority=body.priority,
        checkpoint_seconds=body.checkpoint.seconds,
        checkpoint_epochs=body.checkpoint.epochs,
        publish=_publish(body.publish, spec),
        traceparent=traceparent(),
        multiply_adds=count,
        quotas=services().quotas,
    )


def _publish(asked: schemas.Publish | None, spec: ResolvedSpec) -> dict[str, Any] | None:
    """Return what to publish under, unless what it is to be compared by will not be measured."""
    if asked is None:
        return None
    validates = not (isinstance(spec.validation, ValidationPart) and not spec.validation.fraction)
    measured = ClassificationMetric if spec.task == "classification" else RegressionMetric
    known = ("train_loss", *(("validation_loss", *get_args(measured)) if validates else ()))
    if asked.if_better not in (None, *known):
        reason = f"this job will not measure it; one of {', '.join(known)} would do"
        raise BodyError("/publish/if_better", reason)
    return asked.model_dump()


def _profile(dataset: Dataset) -> list[ColumnProfile]:
    return [ColumnProfile(**column) for column in dataset.columns]


def traceparent() -> str | None:
    """Return the trace that the request belongs to, if it names one as W3C Trace Context says."""
    sent = request.headers.get("traceparent", "")
    return sent if TRACEPARENT.fullmatch(sent) else None


def resource(job: Job) -> schemas.Job:
    """Describe a job to a caller."""
    error = None
    if job.error_code is not None:
        error = schemas.JobError(code=job.error_code, detail=job.error_detail or "")
    return schemas.Job(
        id=job.id,
        name=job.name,
        status=job.status,
        attempt=job.attempt,
        priority=job.priority,
        checkpoint=schemas.CheckpointRule(
            seconds=job.checkpoint_seconds, epochs=job.checkpoint_epochs
        ),
        progress=schemas.JobProgress(
            epoch=job.epoch,
            epochs=job.epochs,
            fraction=job.fraction,
            eta_seconds=job.eta_seconds,
            samples_per_second=job.samples_per_second,
        ),
        metrics=job.metrics,
        model=job.model_id,
        publish=job.publish and schemas.Publish(**job.publish),
        publication=job.publication and schemas.Publication(**job.publication),
        reproducibility=_reproducibility(job),
        fingerprints=job.fingerprints,
        notes=job.notes,
        stop_reason=cast(StopReason | None, job.stop_reason),
        error=error,
        spec=job.spec,
        multiply_adds=job.multiply_adds,
        dataset_sha256=job.dataset_sha256,
        validation_dataset_sha256=job.validation_dataset_sha256,
        metadata=job.job_metadata,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
    )


def _reproducibility(job: Job) -> Literal["bitwise", "numerical"] | None:
    """Say whether the same spec on the same kind of worker gives the same bits again."""
    if not job.fingerprints:
        return None
    return "bitwise" if len(job.fingerprints) == 1 else "numerical"


@bp.get("", responses={200: schemas.JobPage})
def index(query: schemas.JobsQuery) -> Response:
    """List the jobs, newest first."""
    with reading() as session:
        page = jobs.page(session, owner(), **query.model_dump())
        data = [resource(job) for job in page.items]
    body = schemas.JobPage(data=data, next_cursor=page.next_cursor)
    return answer_page(body, page.next_cursor)


@bp.get("/<job_id>", responses={200: schemas.Job})
def show(path: schemas.JobPath, query: schemas.WaitQuery) -> Response:
    """Show a job; with `wait`, once it has changed or ended."""

    def tag() -> tuple[str, bool]:
        with reading() as session:
            job = jobs.get(session, owner(), path.job_id)
            return _tag(job), job.status in TERMINAL

    if query.wait:
        hold(tag, min(query.wait, services().settings.wait_limit_seconds))
    with reading() as session:
        job = jobs.get(session, owner(), path.job_id)
        return answer_tagged(resource(job), _tag(job))


def _tag(job: Job) -> str:
    return f"{job.id}.{job.version}"


@bp.get("/<job_id>/curve", responses={200: schemas.Curve})
def curve(path: schemas.JobPath, query: schemas.CurveQuery) -> Response:
    """Show the loss curve: JSON, or CSV, SVG or PNG by `Accept`."""
    with reading() as session:
        job = jobs.get(session, owner(), path.job_id)
        points = [point_of(row) for row in jobs.curve(session, job.id, query.since)]
    return charts.answer_curve(points)


def point_of(row: CurvePoint) -> charts.Point:
    """Describe a point of a curve to a caller; the metrics stand beside the losses."""
    return {**{name: getattr(row, name) for name in charts.COLUMNS}, **row.metrics}


def _moved(session: Session, job_id: str, move: Callable[[Session, str, str], Job]) -> Response:
    tag = _tag(jobs.get(session, owner(), job_id, lock=True))
    job = move(session, owner(), job_id)
    unless_changed(tag)
    return answer(resource(job))


@bp.post("/<job_id>/cancel", responses={200: schemas.Job})
def cancel(path: schemas.JobPath) -> Response:
    """Cancel a job: at once while it waits, within two seconds while it runs."""

    def work(session: Session) -> Response:
        return _moved(session, path.job_id, jobs.request_cancel)

    return once(work)


@bp.post("/<job_id>/pause", responses={200: schemas.Job})
def pause(path: schemas.JobPath) -> Response:
    """Put a job aside: at once while it waits, within two seconds while it runs."""

    def work(session: Session) -> Response:
        return _moved(session, path.job_id, jobs.request_pause)

    return once(work)


@bp.post("/<job_id>/resume", responses={200: schemas.Job})
def resume(path: schemas.JobPath) -> Response:
    """Go on with a paused job from where it stopped, or take back a pause not yet heard."""

    def work(session: Session) -> Response:
        return _moved(session, path.job_id, jobs.resume)

    response = once(work)
    services().doorbell.ring(path.job_id)
    return response


@bp.delete("/<job_id>", responses={204: None})
def remove(path: schemas.JobPath) -> tuple[str, int]:
    """Delete a job that has ended, with its curve and checkpoint; its model stays."""
    with writing() as session:
        tag = _tag(jobs.get(session, owner(), path.job_id, lock=True))
        jobs.remove(session, owner(), path.job_id)
        unless_changed(tag)
    return "", 204
