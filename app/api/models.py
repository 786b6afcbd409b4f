"""Models: look, predict, evaluate, fetch the weights, delete."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.api import rows, schemas
from app.api.conditional import answer, answer_json, answer_tagged, unless_changed
from app.api.datasets import file_of
from app.api.errors import BodyError, pointer
from app.api.once import once_apart
from app.api.pages import answer_page
from app.api.services import answered_by, owner, reading, services, writing
from app.store import artifacts, trained_models
from app.store.tables import TrainedModel
from engine.arrays import Matrix
from engine.checkpoint import read_tensors
from engine.data.formats.stored import read_table
from engine.data.table import Table, table_from_instances
from engine.errors import DataError, SchemaError
from engine.model import Model

bp = APIBlueprint("models", __name__, url_prefix="/v1/models", abp_tags=[Tag(name="Models")])


@bp.get("", responses={200: schemas.ModelPage})
def index(query: schemas.PageQuery) -> Response:
    """List the models, newest first."""
    with reading() as session:
        page = trained_models.page(session, owner(), limit=query.limit, cursor=query.cursor)
        data = [resource(model) for model in page.items]
    body = schemas.ModelPage(data=data, next_cursor=page.next_cursor)
    return answer_page(body, page.next_cursor)


@bp.get("/<model_id>", responses={200: schemas.Model})
def show(path: schemas.ModelPath) -> Response:
    """Show a model: what it takes, what it answers, and how well it did."""
    with reading() as session:
        model = trained_models.get(session, owner(), path.model_id)
        return answer_tagged(resource(model), _tag(model))


def _tag(model: TrainedModel) -> str:
    return f"{model.id}.{model.job_id}"


def resource(model: TrainedModel) -> schemas.Model:
    """Describe a model to a caller."""
    return schemas.Model(
        id=model.id,
        job=model.job_id,
        task=model.task,
        inputs=[schemas.ModelInput.model_validate(column) for column in model.inputs],
        preprocessing=[
            schemas.ColumnPreprocessing.model_validate(column["preprocessing"])
            for column in model.inputs
        ],
        outputs=model.outputs,
        classes=model.classes,
        metrics=model.metrics,
        parameters=model.parameters,
        bytes=model.bytes,
        created_at=model.created_at,
    )


@bp.post("/<model_id>/predict", responses={200: schemas.Predictions})
def predict(path: schemas.ModelPath, body: schemas.PredictRequest) -> Response:
    """Predict rows."""

    def work() -> Response:
        model_id, model = services().predictor.model(owner(), path.model_id)
        answered_by(model_id)
        return answer_json(predict_rows(model_id, model, body.instances))

    return once_apart(work)


def predict_rows(model_id: str, model: Model, instances: Sequence[Any]) -> dict[str, Any]:
    """Return the answer to rows."""
    y = rows.predicted(model, instances)
    if y is None:
        y = model.predict(table_of(model, instances))
    return {"model": model_id, "predictions": predictions(model, y)}


def table_of(model: Model, instances: Sequence[Any], where: str | None = None) -> Table:
    """Put instances into a table; what is wrong with one is said with a pointer to it.

    ``where`` is the field that holds the only one; else they are in `instances`.
    """

    def at(row: int, *parts: str | int) -> str:
        return pointer(where, *parts) if where else pointer("instances", row, *parts)

    names = [column.name for column in model.inputs]
    for row, instance in enumerate(instances):
        if isinstance(instance, list) and len(instance) != len(names):
            wanted = f"{len(names)} values in the order of the model's inputs"
            raise BodyError(at(row), f"expected {wanted}, got {len(instance)}")
    try:
        return table_from_instances(model.inputs, instances, model.ignored)
    except SchemaError as error:
        row = cast(int, error.row)  # instances are checked one by one
        place = names.index(error.column) if isinstance(instances[row], list) else error.column
        reason = f"expected {error.expected}, got {error.got}"
        raise BodyError(at(row, place), reason) from error


def predictions(model: Model, y: Matrix) -> list[dict[str, Any]]:
    """Put a matrix of predictions into words."""
    classes, names = model.classes, model.class_names
    if classes is not None and names is not None:
        labels = y.argmax(axis=1).tolist()
        return [
            {"label": classes[label], "probabilities": dict(zip(names, row, strict=True))}
            for label, row in zip(labels, y.tolist(), strict=True)
        ]
    if len(model.outputs) == 1:
        return [{"value": value} for value in y[:, 0].tolist()]
    return [{"values": dict(zip(model.outputs, row, strict=True))} for row in y.tolist()]


@bp.post("/<model_id>/evaluate", responses={200: schemas.Evaluation})
def evaluate(path: schemas.ModelPath, body: schemas.EvaluateRequest) -> Response:
    """Measure a model on a dataset."""

    def work() -> Response:
        model_id, model = services().predictor.model(owner(), path.model_id)
        with file_of(body.dataset) as file:
            table = read_table(file)
        try:
            found = model.evaluate(table)
        except DataError as error:
            raise BodyError("/dataset", str(error)) from error
        counts = None
        if found.confusion is not None:
            classes = list(model.classes or ())
            counts = schemas.Confusion(classes=classes, counts=found.confusion.tolist())
        return answer(
            schemas.Evaluation(
                model=model_id,
                dataset=body.dataset,
                rows=found.rows,
                metrics=found.metrics,
                confusion=counts,
            )
        )

    return once_apart(work)


@bp.get(
    "/<model_id>/weights",
    responses={
        200: {
            "description": "The weights.",
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
            },
        }
    },
)
def weights(path: schemas.ModelPath, query: schemas.WeightsQuery) -> Response:
    """Fetch the weights, with what was fitted for preprocessing."""
    with reading() as session:
        model = trained_models.get(session, owner(), path.model_id)
        data = artifacts.read(session, model.artifact_id)
    content = data if query.format == "safetensors" else _npz(data)
    response = Response(content, content_type="application/octet-stream")
    response.headers["Content-Disposition"] = f'attachment; filename="{model.id}.{query.format}"'
    response.set_etag(f"{model.id}.{query.format}")
    response.make_conditional(request, accept_ranges=True, complete_length=len(content))
    return response


def _npz(data: bytes) -> bytes:
    tensors, _ = read_tensors(data)
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **tensors)
    return packed.getvalue()


@bp.delete("/<model_id>", responses={204: None})
def remove(path: schemas.ModelPath) -> tuple[str, int]:
    """Delete a model."""
    with writing() as session:
        model = trained_models.get(session, owner(), path.model_id)
        tag = _tag(model)
        trained_models.remove(session, owner(), model.id)
        unless_changed(tag)
    return "", 204
