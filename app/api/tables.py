"""Predictions as tables: rows that come as CSV or Arrow, and answers in the form that is wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from flask import Response, request
from werkzeug.wsgi import wrap_file

from app.api.bodies import TABLES
from app.api.conditional import json_bytes
from app.api.drawings import wanted_form
from app.api.errors import BodyError
from app.api.services import services
from app.predictor import Served
from app.store import uploads
from engine import scoring
from engine.arrays import Matrix
from engine.data.formats.ingestion import ingest
from engine.data.formats.kinds import Limits, Options
from engine.data.formats.stored import read_table
from engine.data.formats.written import TableWriter, WrittenFormat
from engine.data.quantiles import apart
from engine.data.table import NUMERIC, ColumnType
from engine.model import Model
from engine.scoring import Decision

JSON = "application/json"

GIVEN: dict[str, WrittenFormat] = {
    "text/csv": "csv",
    "application/vnd.apache.arrow.stream": "arrow_stream",
    "application/vnd.apache.arrow.file": "arrow",
}
"""What predictions come as, beside JSON."""

JSON_ROWS = 100_000
"""As many rows are answered in JSON."""

ROWS_AT_ONCE = 1000
"""So many predictions are put into words before they are sent."""

MANY_ROWS = 16
"""From so many on it pays to write the answer without an object for each."""


def wanted() -> str:
    """Return the form that the answer is to have: as the rows came unless the caller says."""
    sent = request.mimetype if request.mimetype in GIVEN else JSON
    return wanted_form([sent, *(form for form in (JSON, *GIVEN) if form != sent)])


def answer_predictions(served: Served, y: Matrix, decision: Decision, form: str) -> Response:
    """Answer with what a model predicted."""
    if form == JSON:
        return _answer_json(served, y, decision)
    with uploads.folder(services().scratch) as folder:
        with TableWriter(folder / "answer", GIVEN[form]) as writer:
            writer.write(scoring.columns(served.model, y, decision))
        return _answer_file(folder / "answer", form)


def answer_table(served: Served, decision: Decision, form: str) -> Response:
    """Predict the rows of the table that is the request's body."""
    scoring.check_rows(served.model)
    decision.check(served.model)
    settings = services().settings
    limits = Limits(settings.cell_limit, settings.unpacked_limit_bytes, settings.expansion_limit)
    with uploads.folder(services().scratch) as folder:
        (folder / "sent").write_bytes(request.get_data())
        kept = folder / "table.arrow"
        types = Options(types=_types(served.model))
        found = ingest(folder / "sent", TABLES[request.mimetype], kept, limits, types)
        if form == JSON:
            if found.rows > JSON_ROWS:
                reason = f"{found.rows:,} rows; JSON is for up to {JSON_ROWS:,}"
                raise BodyError("", f"{reason}; accept text/csv, or send fewer")
            names = [column.name for column in served.model.inputs]
            y = served.model.predict(read_table(kept, names))
            return answer_predictions(served, y, decision, form)
        scoring.score(served.model, kept, folder / "answer", GIVEN[form], decision)
        return _answer_file(folder / "answer", form)


def _types(model: Model) -> dict[str, ColumnType]:
    """Return what the columns of strings are to be taken for: what they were when training."""
    return {
        column.name: "number" if column.type in NUMERIC - {"boolean"} else column.type
        for column in model.inputs
        if column.type != "tensor"
    }


def _answer_file(path: Path, form: str) -> Response:
    """Answer with a file, which is read while it is sent; its name may be gone by then."""
    size = path.stat().st_size
    pieces = wrap_file(request.environ, path.open("rb"), 1 << 20)
    response = Response(pieces, content_type=form, direct_passthrough=False)
    response.content_length = size
    response.vary.add("Accept")
    return response


def _answer_json(served: Served, y: Matrix, decision: Decision) -> Response:
    if len(y) <= ROWS_AT_ONCE:
        return Response(written(served, y, decision), content_type=JSON)
    return Response(_pieces(served, y, decision), content_type=JSON)


def _pieces(served: Served, y: Matrix, decision: Decision) -> Iterator[bytes]:
    """Yield an answer in pieces, none of which is large."""
    yield b'{"model":%s,"predictions":' % orjson.dumps(served.id)
    for start in range(0, len(y), ROWS_AT_ONCE):
        rows = _rows(served.model, y[start : start + ROWS_AT_ONCE], decision)
        yield (b"," if start else b"[") + rows[1:-1]
    yield b"]}"


def written(served: Served, y: Matrix, decision: Decision) -> bytes:
    """Return the answer in JSON to a few rows."""
    rows = _rows(served.model, y, decision)
    return b'{"model":%s,"predictions":%s}' % (orjson.dumps(served.id), rows)


def _rows(model: Model, y: Matrix, decision: Decision) -> bytes:
    """Write predictions as an array of JSON."""
    if len(y) < MANY_ROWS or model.classes is None or decision != Decision():
        return json_bytes(_predictions(model, y, decision))
    return _classes_of_many(model.classes, model.class_names or (), y)


def _classes_of_many(classes: Sequence[Any], names: Sequence[str], y: Matrix) -> bytes:
    """Write what `_classified` says in a third of the time: without an object for each row."""
    numbers = orjson.dumps(y.astype(np.float64).ravel(), option=orjson.OPT_SERIALIZE_NUMPY)
    probabilities = numbers[1:-1].split(b",")
    labels = [b'{"label":%s,"probabilities":{' % orjson.dumps(label) for label in classes]
    width = 2 + 2 * len(names)
    pieces = [b""] * (len(y) * width)
    pieces[::width] = [labels[label] for label in y.argmax(axis=1)]
    for place, name in enumerate(names):
        before = b"," if place else b""
        pieces[2 * place + 1 :: width] = [b"%s%s:" % (before, orjson.dumps(name))] * len(y)
        pieces[2 * place + 2 :: width] = probabilities[place :: len(names)]
    pieces[width - 1 :: width] = [b"}},"] * len(y)
    return b"[%s]" % b"".join(pieces)[:-1]


def _predictions(model: Model, y: Matrix, decision: Decision) -> list[dict[str, Any]]:
    """Put a matrix of predictions into words."""
    if model.classes is not None and model.class_names is not None:
        return _classified(model.classes, model.class_names, y, decision)
    name = "value" if len(model.outputs) == 1 else "values"
    found = [{name: told} for told in _numbers(model, model.values(y))]
    if levels := model.quantiles:
        answers = apart(y, levels)
        told = [_numbers(model, answers[:, :, place]) for place in range(len(levels))]
        for prediction, row in zip(found, zip(*told, strict=True), strict=True):
            prediction["quantiles"] = dict(zip(map(str, levels), row, strict=True))
    return found


def _numbers(model: Model, y: Matrix) -> list[Any]:
    """Put numbers into words: of each row the one target's, or those of all by name."""
    horizon = model.settings.horizon
    rows = (y if horizon == 1 else y.reshape(len(y), -1, horizon)).tolist()
    if len(model.outputs) == 1:
        return [row[0] for row in rows]
    return [dict(zip(model.outputs, row, strict=True)) for row in rows]


def _classified(
    classes: Sequence[Any], names: Sequence[str], y: Matrix, decision: Decision
) -> list[dict[str, Any]]:
    labels = [classes[label] for label in decision.labels(y).tolist()]
    if not decision.probabilities:
        return [{"label": label} for label in labels]
    if decision.top_k is None:
        return [
            {"label": label, "probabilities": dict(zip(names, row, strict=True))}
            for label, row in zip(labels, y.tolist(), strict=True)
        ]
    return [
        {"label": label, "probabilities": {names[place]: row[place] for place in told}}
        for label, row, told in zip(labels, y.tolist(), decision.told(y).tolist(), strict=True)
    ]
