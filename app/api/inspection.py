"""Looking inside a model: what it does with an example, what moves it, what it has learnt."""

from __future__ import annotations

from typing import Any

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.api import drawings, schemas
from app.api.conditional import answer_json
from app.api.drawings import PICTURES, answer_drawn, wanted_form
from app.api.errors import BodyError
from app.api.instances import table_of
from app.api.services import owner, services
from app.predictor import Served
from engine import inspection
from engine.arrays import Tensor
from engine.errors import DataError, SchemaError
from engine.model import Model

bp = APIBlueprint(
    "inspection", __name__, url_prefix="/v1/models", abp_tags=[Tag(name="Looking inside")]
)

FORMS = ("application/json", *PICTURES)

SHOWN_NUMBERS = 1_000_000
"""A network of more weights is not shown whole."""


@bp.post("/<model_id>/trace", responses={200: schemas.Trace})
def trace(path: schemas.ModelPath, body: schemas.TraceRequest) -> Response:
    """Follow one example forward and back: outputs, deltas and gradients of every layer."""
    form, (model_id, model) = wanted_form(FORMS), _model(path.model_id)
    table = table_of(model, [body.instance], where="instance")
    try:
        found = inspection.trace(model, table, body.target)
    except SchemaError as error:
        raise BodyError("/target", f"expected {error.expected}, got {error.got}") from error
    if form != FORMS[0]:
        return answer_drawn(drawings.trace(found), form)
    layers = [
        {
            "name": layer.name,
            "type": layer.kind,
            "shape": list(layer.output.shape),
            "output": layer.output.tolist(),
            "delta": None if layer.delta is None else layer.delta.tolist(),
            "gradients": {name: gradient.tolist() for name, gradient in layer.gradients.items()},
        }
        for layer in found.layers
    ]
    return answer_json({"model": model_id, "loss": found.loss, "layers": layers})


@bp.post("/<model_id>/saliency", responses={200: schemas.Saliencies})
def saliency(path: schemas.ModelPath, body: schemas.SaliencyRequest) -> Response:
    """Tell how much each input moves what is predicted: the slope of the output at the inputs."""
    form, (model_id, model) = wanted_form(FORMS), _model(path.model_id)
    table = table_of(model, body.instances)
    found = inspection.saliency(model, table, _output(model, body.output))
    if form != FORMS[0]:
        return answer_drawn(drawings.saliency(found), form)
    names = list(model.classes) if model.classes is not None else list(model.outputs)
    rows = [
        {
            "output": names[output],
            "gradients": {name: d[row].tolist() for name, d in found.gradients.items()},
        }
        for row, output in enumerate(found.outputs)
    ]
    return answer_json({"model": model_id, "saliencies": rows})


def _output(model: Model, wanted: Any) -> int | None:
    """Return which output a class or a target is; None leaves the choice to the prediction."""
    if wanted is None:
        return None
    try:
        return model.output(wanted)
    except SchemaError as error:
        raise BodyError("/output", f"expected {error.expected}, got {error.got}") from error


@bp.get("/<model_id>/features", responses={200: schemas.Features})
def features(path: schemas.ModelPath) -> Response:
    """Show what each unit of the first layer looks for: its weights, as images if it sees them."""
    form, (model_id, model) = wanted_form(FORMS), _model(path.model_id)
    found = inspection.first_features(model)
    if found is None:
        raise DataError("the first layer is an embedding, which looks at no other input")
    name, weights = found
    if form != FORMS[0]:
        return answer_drawn(drawings.features(weights), form)
    inputs = model.features.names if weights.ndim == 2 else None
    described = {**_described(name, weights), "inputs": inputs}
    return answer_json({"model": model_id, **described})


def _described(name: str, weights: Tensor) -> dict[str, Any]:
    return {"layer": name, "shape": list(weights.shape), "weights": weights.tolist()}


def _model(reference: str) -> Served:
    """Return the model, unless it is one of sequences or too large to be shown."""
    served = services().predictor.model(owner(), reference)
    if served.model.sequence is not None:
        raise DataError("the model takes sequences of rows; only models of single rows are shown")
    size = served.model.network.numbers.size
    if size > SHOWN_NUMBERS:
        raise DataError(f"the network has {size:,} numbers; up to {SHOWN_NUMBERS:,} are shown")
    return served
