"""Models: look, predict, evaluate, fetch the weights, delete."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from werkzeug.exceptions import UnprocessableEntity

from app.api import rows, schemas, tables
from app.api.bodies import TABLES
from app.api.conditional import answer, answer_tagged, unless_changed
from app.api.datasets import file_of
from app.api.errors import BodyError, sent
from app.api.instances import laid_out
from app.api.once import once_apart
from app.api.pages import answer_page
from app.api.services import answered_by, owner, reading, services, writing
from app.config import VERSION
from app.export.graph import UnportableError
from app.export.model import onnx_of
from app.store import artifacts, trained_models
from app.store.tables import TrainedModel
from engine.arrays import Matrix
from engine.checkpoint import read_tensors
from engine.data.formats.stored import read_table
from engine.errors import DataError
from engine.model import Model
from engine.scoring import Decision
from engine.spec import SequenceSpec

MEASURED_BYTES = 1 << 29
"""The largest dataset that a model is measured on, for it is held in memory while others ask."""

MEASURED_ADVICE = "upload a part of the rows, or have a job validate on the dataset"

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
        sequence=SequenceSpec.model_validate(model.sequence) if model.sequence else None,
        metrics=model.metrics,
        parameters=model.parameters,
        bytes=model.bytes,
        created_at=model.created_at,
    )


_PREDICT_BODY = {
    "required": True,
    "description": "Rows as JSON, or as a table; the options of a table are in the query.",
    "content": {
        "application/json": {"schema": {"$ref": "#/components/schemas/PredictRequest"}},
        **{kind: {"schema": {"type": "string", "format": "binary"}} for kind in TABLES},
    },
}

_PREDICTED = {
    "description": "Predictions in the order of the rows.",
    "content": {
        "application/json": {"schema": {"$ref": "#/components/schemas/Predictions"}},
        **{kind: {"schema": {"type": "string", "format": "binary"}} for kind in tables.GIVEN},
    },
}


@bp.post(
    "/<model_id>/predict",
    responses={200: _PREDICTED},
    openapi_extensions={"requestBody": _PREDICT_BODY},
)
def predict(path: schemas.ModelPath, query: schemas.PredictQuery) -> Response:
    """Predict rows."""
    return once_apart(lambda: _predict(path.model_id, query))


def _predict(reference: str, query: schemas.PredictQuery) -> Response:
    form = tables.wanted()
    if request.mimetype in TABLES:
        served = services().predictor.model(owner(), reference)
        answered_by(served.id)
        return tables.answer_table(served, _decision(query), form)
    if query.model_fields_set:
        raise UnprocessableEntity("with JSON the options are fields of the body, not of the query")
    body = sent(schemas.PredictRequest)
    served = services().predictor.model(owner(), reference)
    answered_by(served.id)
    decision = _decision(body)
    decision.check(served.model)
    y = predict_rows(served.model, body.instances)
    return tables.answer_predictions(served, y, decision, form)


def predict_rows(model: Model, instances: Sequence[Any]) -> Matrix:
    """Predict instances of JSON; what is wrong with one is said with a pointer to it."""
    y = rows.predicted(model, instances)
    return model.predict(*laid_out(model, instances)) if y is None else y


def _decision(asked: schemas.PredictRequest | schemas.PredictQuery) -> Decision:
    return Decision(asked.probabilities, asked.top_k, asked.threshold)


@bp.post("/<model_id>/evaluate", responses={200: schemas.Evaluation})
def evaluate(path: schemas.ModelPath, body: schemas.EvaluateRequest) -> Response:
    """Measure a model on a dataset."""

    def work() -> Response:
        model_id, model = services().predictor.model(owner(), path.model_id)
        with file_of(body.dataset) as file:
            if (size := file.stat().st_size) > MEASURED_BYTES:
                most = f"a model is measured on up to {MEASURED_BYTES:,} at once"
                raise BodyError(
                    "/dataset", f"has {size:,} bytes as it is kept; {most}; {MEASURED_ADVICE}"
                )
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
    model_id, content = _written(path.model_id, query.format)
    response = Response(content, content_type="application/octet-stream")
    response.headers["Content-Disposition"] = f'attachment; filename="{model_id}.{query.format}"'
    # Another release may write the same graph in another way.
    version = f".{VERSION}" if query.format == "onnx" else ""
    response.set_etag(f"{model_id}.{query.format}{version}")
    response.make_conditional(request, accept_ranges=True, complete_length=len(content))
    return response


def _written(reference: str, form: str) -> tuple[str, bytes]:
    """Return a model's id, and the model in a file format."""
    if form == "onnx":
        model_id, served = services().predictor.model(owner(), reference)
        try:
            return model_id, onnx_of(served, model_id)
        except UnportableError as error:
            raise BodyError("/format", f"{error}; safetensors and npz can hold it") from error
    with reading() as session:
        model = trained_models.get(session, owner(), reference)
        data = artifacts.read(session, model.artifact_id)
        return model.id, data if form == "safetensors" else _npz(data)


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
