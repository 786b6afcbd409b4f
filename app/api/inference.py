"""The Open Inference Protocol V2 over the same models, with Triton's binary tensors.

A model has one input for each of its columns; where all of them are numbers it
has one for them all, and takes them one by one as well. Errors are what the
protocol says: an object with `error`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from werkzeug.datastructures import Accept
from werkzeug.exceptions import BadRequest
from werkzeug.http import parse_accept_header

from app.api import schemas, tensors
from app.api.bodies import read_json
from app.api.conditional import answer
from app.api.errors import BodyError
from app.api.once import once_apart
from app.api.service import states
from app.api.services import answered_by, owner, reading, services
from app.api.tensors import Inference, Values
from app.config import VERSION
from app.predictor import Served
from app.store import names, trained_models
from app.store.errors import NotFoundError
from engine.arrays import Matrix
from engine.data.scaling import Numbers
from engine.data.table import NUMERIC, Column, InputColumn, Table, column_of, nearest
from engine.errors import SchemaError
from engine.model import Model
from engine.scoring import check_rows, number_names, numbers

bp = APIBlueprint("inference", __name__, url_prefix="/v2", abp_tags=[Tag(name="Inference")])

HEADER = "Inference-Header-Content-Length"

WHOLE = "input"
"""The name of the tensor that holds all columns."""

PACKED_BYTES = 1024
"""Shorter answers are not packed, whoever would take them so."""

SHOWN_VERSIONS = 100

ONLY_VERSION = "1"
"""Of a model that is asked for by its id, for it never changes."""

_SERVER = schemas.InferenceServer(
    name="chainrule", version=VERSION, extensions=["binary_tensor_data"]
)

_INFER_BODY = {
    "required": True,
    "description": "Tensors as JSON, or JSON and binary data; gzip and deflate are unpacked.",
    "content": {
        "application/json": {"schema": {"$ref": "#/components/schemas/InferenceRequest"}},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    },
}


@bp.get("", responses={200: schemas.InferenceServer})
def server() -> Response:
    """Say what serves."""
    return answer(_SERVER)


@bp.get("/", responses={200: schemas.InferenceServer})
def server_again() -> Response:
    """Say what serves, at the other of the two addresses that clients know."""
    return answer(_SERVER)


@bp.get("/health/live", responses={200: schemas.InferenceLive})
def live() -> Response:
    """Answer while the process serves."""
    return answer(schemas.InferenceLive(live=True))


@bp.get("/health/ready", responses={200: schemas.InferenceReady, 503: schemas.InferenceReady})
def ready() -> Response:
    """Answer 200 while every dependency answers, else 503."""
    is_ready = all(state == "ok" for state in states().values())
    return answer(schemas.InferenceReady(ready=is_ready, live=True), 200 if is_ready else 503)


@bp.get("/models/<model_id>", responses={200: schemas.InferenceModel})
def model(path: schemas.ModelPath) -> Response:
    """Show the tensors of a model."""
    return _metadata(path.model_id, None)


@bp.get("/models/<model_id>/versions/<version>", responses={200: schemas.InferenceModel})
def model_version(path: schemas.ModelVersionPath) -> Response:
    """Show the tensors of a version of a model."""
    return _metadata(path.model_id, path.version)


@bp.get("/models/<model_id>/ready", responses={200: schemas.InferenceModelReady})
def model_ready(path: schemas.ModelPath) -> Response:
    """Answer 200 if a model can be asked."""
    _served(path.model_id, None)
    return answer(schemas.InferenceModelReady(name=path.model_id, ready=True))


@bp.get("/models/<model_id>/versions/<version>/ready", responses={200: schemas.InferenceModelReady})
def model_version_ready(path: schemas.ModelVersionPath) -> Response:
    """Answer 200 if a version of a model can be asked."""
    _served(path.model_id, path.version)
    return answer(schemas.InferenceModelReady(name=path.model_id, ready=True))


@bp.post(
    "/models/<model_id>/infer",
    responses={200: schemas.InferenceResponse},
    openapi_extensions={"requestBody": _INFER_BODY},
)
def infer(path: schemas.ModelPath) -> Response:
    """Predict rows that are sent as tensors."""
    return once_apart(lambda: _infer(path.model_id, None))


@bp.post(
    "/models/<model_id>/versions/<version>/infer",
    responses={200: schemas.InferenceResponse},
    openapi_extensions={"requestBody": _INFER_BODY},
)
def infer_version(path: schemas.ModelVersionPath) -> Response:
    """Predict rows with a version of a model."""
    return once_apart(lambda: _infer(path.model_id, path.version))


def _served(reference: str, version: str | None) -> Served:
    """Return a model by its id or its name, or the one that had the name in a version."""
    served = _found(reference, version)
    check_rows(served.model)
    return served


def _found(reference: str, version: str | None) -> Served:
    if version is None:
        return services().predictor.model(owner(), reference)
    if reference.startswith(f"{trained_models.PREFIX}_"):
        if version != ONLY_VERSION:
            raise NotFoundError("version", version)
        return services().predictor.model(owner(), reference)
    with reading() as session:
        model_id = names.model_of(session, owner(), reference, version)
    return services().predictor.model(owner(), model_id)


def _metadata(reference: str, version: str | None) -> Response:
    _, found = _served(reference, version)
    return answer(
        schemas.InferenceModel(
            name=reference,
            versions=_versions(reference),
            platform="chainrule_numpy",
            inputs=_inputs(found),
            outputs=_outputs(found),
        )
    )


def _versions(reference: str) -> list[str]:
    if reference.startswith(f"{trained_models.PREFIX}_"):
        return [ONLY_VERSION]
    with reading() as session:
        page = names.history(session, owner(), reference, limit=SHOWN_VERSIONS, cursor=None)
    return [str(switch.version) for switch in reversed(page.items)]


def _inputs(found: Model) -> list[schemas.InferenceTensor]:
    if _is_whole(found):
        shape = [-1, len(found.inputs)]
        return [schemas.InferenceTensor(name=WHOLE, datatype=_precision(found), shape=shape)]
    return [
        schemas.InferenceTensor(
            name=column.name, datatype=_datatype(found, column), shape=[-1, *column.shape]
        )
        for column in found.inputs
    ]


def _is_whole(found: Model) -> bool:
    """Whether all columns can be sent as one tensor."""
    features = found.features
    return WHOLE not in features.column_names and features.column_types <= NUMERIC


def _precision(found: Model) -> str:
    return "FP32" if found.settings.precision == "float32" else "FP64"


def _datatype(found: Model, column: InputColumn) -> str:
    if column.type in NUMERIC or column.type == "tensor":
        return _precision(found)
    return "BYTES"


def _outputs(found: Model) -> list[schemas.InferenceTensor]:
    """Describe the outputs, as `_answers` gives them."""
    if found.classes is None:
        return [
            schemas.InferenceTensor(name=name, datatype="FP64", shape=[-1])
            for name in number_names(found)
        ]
    classes = {"classes": list(found.classes)}
    return [
        schemas.InferenceTensor(name="label", datatype="BYTES", shape=[-1]),
        schemas.InferenceTensor(
            name="probabilities",
            datatype=_precision(found),
            shape=[-1, len(found.classes)],
            parameters=classes,
        ),
    ]


def _infer(reference: str, version: str | None) -> Response:
    model_id, found = _served(reference, version)
    limit = services().settings.body_limit_bytes
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    body = tensors.unpack(request.get_data(), encoding, limit)
    asked = read(found, body, request.headers.get(HEADER))
    said = version or _versions(reference)[-1]
    y, named = predict(found, asked.inputs), Named(reference, said, model_id)
    accepted = request.headers.get("Accept-Encoding", "")
    body, headers = answer_tensors(found, y, asked, named, accepted)
    answered_by(model_id, said)
    return Response(body, headers=headers)


class Named(NamedTuple):
    """What a model is called in an answer."""

    reference: str
    version: str
    id: str


def answer_tensors(
    found: Model, y: Matrix, asked: Inference, named: Named, accepted: str
) -> tuple[bytes, dict[str, str]]:
    """Return the body and headers of the answer to tensors.

    Parameters
    ----------
    found : Model
    y : Matrix
        What it predicts.
    asked : Inference
    named : Named
    accepted : str
        The header that says what the answer may be packed with.
    """
    answers = _answers(found, y)
    wanted = dict.fromkeys(answers, asked.is_binary) if asked.outputs is None else asked.outputs
    for place, name in enumerate(wanted):
        if name not in answers:
            reason = f"the model has no output {name!r}{nearest(name, answers)}"
            raise BodyError(f"/outputs/{place}/name", reason)
    head: dict[str, Any] = {"model_name": named.reference, "parameters": {"model": named.id}}
    head["model_version"] = named.version
    if asked.id is not None:
        head["id"] = asked.id
    chosen = ((name, answers[name], is_binary) for name, is_binary in wanted.items())
    return _packed(*tensors.write(head, chosen), accepted)


def read(
    found: Model, body: bytes, sent: str | None, parse: Callable[[bytes], Any] = read_json
) -> Inference:
    """Read what is asked of a model.

    Parameters
    ----------
    found : Model
    body : bytes
    sent : str or None
        The header that says how many of them are JSON.
    parse : callable
        Reads JSON; whatever is wrong with it is a ValueError.
    """
    if sent is None:
        return tensors.read(body, None, parse)
    if not (sent.isascii() and sent.isdecimal() and len(sent) < 19):
        raise BadRequest(f"{HEADER}: expected a number of bytes, got {sent[:40]!r}")
    if int(sent) > 0:
        return tensors.read(body, int(sent), parse)
    [*inputs] = _inputs(found)
    if len(inputs) != 1 or inputs[0].datatype == "BYTES":
        raise BadRequest(f"{HEADER} 0 is for models of one input of numbers; name the inputs")
    only = inputs[0]
    return tensors.read_raw(body, only.name, only.datatype, tuple(only.shape[1:]))


def predict(found: Model, inputs: dict[str, Values]) -> Matrix:
    """Predict rows; those that are one tensor of numbers as the matrix that they are."""
    values = numbers_of(found, inputs)
    y = None if values is None else found.predict_numbers(values)
    return found.predict(_table(found, inputs)) if y is None else y


def numbers_of(found: Model, inputs: dict[str, Values]) -> Numbers | None:
    """Return rows that are one tensor of numbers; None where they are anything else, or amiss."""
    if list(inputs) == [WHOLE] and found.takes_numbers and _is_whole(found):
        values = inputs[WHOLE]
        if values.dtype != object and values.shape[1:] == (len(found.inputs),) and len(values):
            return values.astype(np.float64)
    return None


def _table(found: Model, inputs: dict[str, Values]) -> Table:
    """Put tensors into a table of the model's columns."""
    if _is_whole(found) and list(inputs) == [WHOLE]:
        inputs = _columns(found, inputs[WHOLE])
    known = [column.name for column in found.inputs]
    for name in inputs:
        if name not in known:
            reason = f"the model has no input {name!r}{nearest(name, known)}"
            raise BodyError("/inputs", reason)
    missing = [name for name in known if name not in inputs]
    if missing:
        raise BodyError("/inputs", f"the input {missing[0]!r} is missing, one of {len(missing)}")
    lengths = {name: values.shape[0] if values.ndim else 0 for name, values in inputs.items()}
    if len(set(lengths.values())) > 1 or not max(lengths.values()):
        raise BodyError("/inputs", f"expected as many rows in every input, got {lengths}"[:500])
    return Table(tuple(_column(column, inputs[column.name]) for column in found.inputs))


def _columns(found: Model, whole: Values) -> dict[str, Values]:
    if whole.ndim != 2 or whole.shape[1] != len(found.inputs):
        wanted = f"the shape [rows, {len(found.inputs)}]"
        raise BodyError("/inputs/0/shape", f"expected {wanted}, got {list(whole.shape)}")
    return {column.name: whole[:, place] for place, column in enumerate(found.inputs)}


def _column(column: InputColumn, values: Values) -> Column:
    """Return a column of the table; one value a row may also have a dimension of its own."""
    rows = len(values)
    if column.type != "tensor" and values.size == rows:
        values = values.reshape(rows)
    wanted = (rows, *column.shape)
    if values.size == np.prod(wanted):
        values = values.reshape(wanted)
    if values.shape != wanted:
        reason = f"{column.name!r}: expected the shape {list(wanted)}, got {list(values.shape)}"
        raise BodyError("/inputs", reason)
    if values.dtype == object or column.type not in NUMERIC | {"tensor"}:
        try:
            return column_of(column, values.tolist())
        except SchemaError as error:
            raise BodyError("/inputs", str(error)) from error
    return Column(column.name, column.type, values.astype(np.float64))


def _answers(found: Model, y: Values) -> dict[str, Values]:
    """Return the outputs by name."""
    if found.class_names is None:
        return dict(numbers(found, y))
    labels = np.array(found.class_names, dtype=object)[y.argmax(axis=1)]
    return {"label": labels, "probabilities": y}


def _packed(body: bytes, header_bytes: int | None, accepted: str) -> tuple[bytes, dict[str, str]]:
    """Return an answer, packed where that is worth it, and its headers."""
    kind = "application/json" if header_bytes is None else "application/octet-stream"
    headers = {"Content-Type": kind}
    if len(body) >= PACKED_BYTES and (packing := _packing(accepted)):
        body = tensors.pack(body, packing)
        headers["Content-Encoding"] = packing
    if header_bytes is not None:
        headers[HEADER] = str(header_bytes)
    return body, headers


@lru_cache(64)
def _packing(accepted: str) -> str | None:
    return parse_accept_header(accepted, Accept).best_match(list(tensors.PACKINGS))
