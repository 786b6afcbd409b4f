"""The OpenAPI document: what the views declare, and what all calls have in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from app.api import schemas
from app.api.once import KEY

PROBLEM = {
    "description": "An error, as RFC 9457.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}

ERROR = {
    "description": "An error, as the Open Inference Protocol has it.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/InferenceError"}}},
}

IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same key with the same request is answered as before, not done again.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": f"^{KEY.pattern}$"},
}


def complete(document: dict[str, Any]) -> None:
    """Add to every call how it fails, its key, and for a POST the key that makes it safe to repeat.

    The library knows neither another media type for errors nor headers that
    no view reads, nor what a string holds, and it writes bounds of integers as floats.
    """
    for model in (
        schemas.PredictRequest,
        schemas.Predictions,
        schemas.InferenceRequest,
        schemas.InferenceError,
    ):
        _declare(document, model)
    _make_whole(document)
    document["security"] = [{"key": []}]
    document["components"]["parameters"] = {"IdempotencyKey": IDEMPOTENCY_KEY}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            operation["responses"].pop("422", None)
            is_inference = path.startswith("/v2")
            operation["responses"]["default"] = ERROR if is_inference else PROBLEM
            if not path.startswith(("/v1", "/v2/models")):
                operation["security"] = []
            for answer in operation["responses"].values():
                _describe_events(answer.get("content", {}).get("text/event-stream"))
            if method == "post":
                reference = {"$ref": "#/components/parameters/IdempotencyKey"}
                operation.setdefault("parameters", []).append(reference)


def _declare(document: dict[str, Any], model: type[BaseModel]) -> None:
    """Add a model that no view names to the library."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    document["components"]["schemas"] |= {**schema.pop("$defs", {}), model.__name__: schema}


def _describe_events(stream: dict[str, Any] | None) -> None:
    """Say that the data of an event comes as a string, and keep what is in it."""
    for event in stream["schema"]["oneOf"] if stream else ():
        properties = event["properties"]
        properties["data"] = {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": properties["data"],
        }


def _make_whole(part: Any) -> None:
    """Write the bounds of integers without a point: readers take 2^63 as a float for more."""
    for inner in part.values() if isinstance(part, dict) else part:
        if isinstance(inner, (dict, list)):
            _make_whole(inner)
    if isinstance(part, dict) and part.get("type") == "integer":
        part |= {name: int(bound) for name, bound in part.items() if isinstance(bound, float)}
