"""Batch predictions: submit, poll, stop, fetch the result, delete."""

from __future__ import annotations

from collections.abc import Callable

from flask import Response, send_file, url_for
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from sqlalchemy.orm import Session

from app.api import schemas
from app.api.conditional import answer, answer_tagged, hold, unless_changed
from app.api.errors import BodyError
from app.api.jobs import traceparent
from app.api.once import once
from app.api.pages import answer_page
from app.api.services import owner, reading, services, writing
from app.store import jobs, predictions
from app.store.lifecycle import TERMINAL, JobKind
from app.store.tables import Job
from engine import scoring
from engine.errors import DataError
from engine.scoring import Decision

bp = APIBlueprint(
    "predictions", __name__, url_prefix="/v1/predictions", abp_tags=[Tag(name="Predictions")]
)

MEDIA_TYPES = {
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.file",
}

_RESULT = {
    "description": "The result.",
    "content": {
        kind: {"schema": {"type": "string", "format": "binary"}} for kind in MEDIA_TYPES.values()
    },
}


@bp.post("", responses={201: schemas.Batch})
def submit(body: schemas.BatchRequest) -> Response:
    """Queue a batch prediction."""
    _, model = services().predictor.model(owner(), body.model)
    try:
        scoring.check_rows(model)
        Decision(body.probabilities, body.top_k, body.threshold).check(model)
    except DataError as error:
        raise BodyError("/model", str(error)) from error
    fields = {"format", "probabilities", "top_k", "threshold"}

    def work(session: Session) -> Response:
        batch = predictions.submit(
            session,
            owner=owner(),
            model=body.model,
            dataset_id=body.dataset,
            asked=body.model_dump(include=fields),
            name=body.name,
            metadata=body.metadata,
            priority=body.priority,
            traceparent=traceparent(),
            quotas=services().quotas,
        )
        return answer(resource(batch), 201, url_for("predictions.show", batch_id=batch.id))

    response = once(work)
    services().doorbell.ring(response.headers["Location"].rsplit("/", 1)[-1])
    return response


def resource(batch: Job) -> schemas.Batch:
    """Describe a batch prediction to a caller."""
    error = result = None
    if batch.error_code is not None:
        error = schemas.JobError(code=batch.error_code, detail=batch.error_detail or "")
    if batch.result is not None:
        result = schemas.BatchResult(
            bytes=batch.result["bytes"],
            rows=batch.result["rows"],
            format=batch.spec["format"],
            path=url_for("predictions.result", batch_id=batch.id),
        )
    return schemas.Batch(
        **batch.spec,
        id=batch.id,
        name=batch.name,
        status=batch.status,
        attempt=batch.attempt,
        priority=batch.priority,
        dataset_sha256=batch.dataset_sha256,
        progress=schemas.BatchProgress(
            rows=batch.epoch,
            total=batch.epochs,
            fraction=batch.fraction,
            eta_seconds=batch.eta_seconds,
            rows_per_second=batch.samples_per_second,
        ),
        result=result,
        error=error,
        metadata=batch.job_metadata,
        created_at=batch.created_at,
        started_at=batch.started_at,
        finished_at=batch.finished_at,
    )


@bp.get("", responses={200: schemas.BatchPage})
def index(query: schemas.JobsQuery) -> Response:
    """List the batch predictions, newest first."""
    with reading() as session:
        page = jobs.page(session, owner(), kind=JobKind.PREDICTION, **query.model_dump())
        data = [resource(batch) for batch in page.items]
    body = schemas.BatchPage(data=data, next_cursor=page.next_cursor)
    return answer_page(body, page.next_cursor)


def _get(session: Session, batch_id: str, *, lock: bool = False) -> Job:
    return jobs.get(session, owner(), batch_id, JobKind.PREDICTION, lock=lock)


def _tag(batch: Job) -> str:
    return f"{batch.id}.{batch.version}"


@bp.get("/<batch_id>", responses={200: schemas.Batch})
def show(path: schemas.BatchPath, query: schemas.WaitQuery) -> Response:
    """Show a batch prediction; with `wait`, once it has changed or ended."""

    def tag() -> tuple[str, bool]:
        with reading() as session:
            batch = _get(session, path.batch_id)
            return _tag(batch), batch.status in TERMINAL

    if query.wait:
        hold(tag, min(query.wait, services().settings.wait_limit_seconds))
    with reading() as session:
        batch = _get(session, path.batch_id)
        return answer_tagged(resource(batch), _tag(batch))


@bp.get("/<batch_id>/result", responses={200: _RESULT})
def result(path: schemas.BatchPath) -> Response:
    """Fetch what was predicted: a row for each of the dataset's, in its order."""
    with reading() as session:
        batch = _get(session, path.batch_id)
        location = predictions.result_of(batch)["location"]
    form = batch.spec["format"]
    with services().storage.local(location) as file:
        return send_file(
            file.absolute(),
            mimetype=MEDIA_TYPES[form],
            as_attachment=True,
            download_name=f"{batch.id}.{form}",
            conditional=True,
            etag=f"{batch.id}.result",
        )


def _moved(batch_id: str, move: Callable[[Session, str, str], Job]) -> Response:
    lost: list[str] = []

    def work(session: Session) -> Response:
        tag = _tag(_get(session, batch_id, lock=True))
        batch = move(session, owner(), batch_id)
        lost.extend(predictions.forget_parts(session, batch))
        unless_changed(tag)
        return answer(resource(batch))

    response = once(work)
    for name in lost:
        services().storage.delete(name)
    return response


@bp.post("/<batch_id>/cancel", responses={200: schemas.Batch})
def cancel(path: schemas.BatchPath) -> Response:
    """Cancel a batch prediction: at once while it waits, within two seconds while it runs."""
    return _moved(path.batch_id, jobs.request_cancel)


@bp.post("/<batch_id>/pause", responses={200: schemas.Batch})
def pause(path: schemas.BatchPath) -> Response:
    """Put a batch prediction aside; the rows so far are kept."""
    return _moved(path.batch_id, jobs.request_pause)


@bp.post("/<batch_id>/resume", responses={200: schemas.Batch})
def resume(path: schemas.BatchPath) -> Response:
    """Queue a paused batch prediction again: it goes on where it was."""
    response = _moved(path.batch_id, jobs.resume)
    services().doorbell.ring(path.batch_id)
    return response


@bp.delete("/<batch_id>", responses={204: None})
def remove(path: schemas.BatchPath) -> tuple[str, int]:
    """Delete a batch prediction that has ended, and its result."""
    with writing() as session:
        batch = _get(session, path.batch_id, lock=True)
        names, tag = predictions.files(batch), _tag(batch)
        jobs.remove(session, owner(), path.batch_id)
        unless_changed(tag)
    for name in names:
        services().storage.delete(name)
    return "", 204
