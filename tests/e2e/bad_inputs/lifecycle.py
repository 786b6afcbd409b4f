"""Bad moves and bad questions: what a job cannot do now, and what a model cannot answer."""

from __future__ import annotations

from typing import Any

import httpx

from tests.e2e.bad_inputs.rows import JSON, Row, World, got, predicted
from tests.e2e.services import IRIS

ABSENT = "0" * 32
FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


def moved(item: int, name: str, move: str, which: str, status: int, says: str) -> Row:
    return Row(
        item, name, lambda w: w.ada.post(f"/v1/jobs/{getattr(w, which)}/{move}"), status, says
    )


def deleted_twice(w: World) -> httpx.Response:
    made = w.ada.upload(IRIS)
    assert w.ada.delete(f"/v1/datasets/{made}").status_code == 204
    return w.ada.delete(f"/v1/datasets/{made}")


def asked(item: int, name: str, call: str, body: Any, says: str, pointer: str) -> Row:
    return Row(
        item,
        name,
        lambda w: w.ada.post(f"/v1/models/{w.model}/{call}", json=body),
        422,
        says,
        pointer,
    )


MOVES = [
    moved(97, "cancel a job that succeeded", "cancel", "job", 409, "succeeded"),
    moved(97, "cancel a job that failed", "cancel", "failed", 409, "failed"),
    moved(97, "pause a job that succeeded", "pause", "job", 409, "succeeded"),
    moved(97, "resume a job that succeeded", "resume", "job", 409, "succeeded"),
    moved(97, "pause a job that is paused", "pause", "paused", 409, "paused"),
    Row(
        98,
        "cancel no job",
        lambda w: w.ada.post(f"/v1/jobs/job_{ABSENT}/cancel"),
        404,
        "there is no ",
    ),
    Row(98, "delete no job", lambda w: w.ada.delete(f"/v1/jobs/job_{ABSENT}"), 404, "there is no "),
    Row(
        98,
        "delete a job that is live",
        lambda w: w.ada.delete(f"/v1/jobs/{w.paused}"),
        409,
        "paused",
    ),
    got(
        99,
        "weights of a job that has no model",
        "/v1/models/{failed}/weights",
        404,
        "there is no ",
    ),
    Row(
        99,
        "predict with a job that is not finished",
        lambda w: w.ada.post(f"/v1/models/{w.paused}/predict", json={"instances": [[1]]}),
        404,
        "there is no ",
    ),
    Row(
        103,
        "delete a dataset in use",
        lambda w: w.ada.delete(f"/v1/datasets/{w.dataset}"),
        409,
        "uses it",
    ),
    Row(104, "change a model", lambda w: w.ada.patch(f"/v1/models/{w.model}", json={}), 405, "do"),
    got(106, "wait -1", "/v1/jobs/{job}?wait=-1", 422, "/wait: expected at least 0"),
    got(106, "wait 10^9", "/v1/jobs/{job}?wait=1000000000", 422, "/wait: expected at most 60"),
    got(106, "wait NaN", "/v1/jobs/{job}?wait=nan", 422, "/wait: expected"),
    got(
        107, "a curve since -1", "/v1/jobs/{job}/curve?since=-1", 422, "/since: expected at least 0"
    ),
    got(
        107,
        "a curve since 10^30",
        f"/v1/jobs/{{job}}/curve?since={10**30}",
        422,
        "/since: expected",
    ),
    got(
        107,
        "a curve since NaN",
        "/v1/jobs/{job}/curve?since=nan",
        422,
        "/since: expected an integer",
    ),
    got(
        108,
        "a last event that is none: begins anew",
        "/v1/jobs/{job}/events",
        200,
        Last_Event_ID="x;y",
    ),
    got(
        109,
        "weights in another format",
        "/v1/models/{model}/weights?format=h5",
        422,
        "/format: unknown 'h5'",
    ),
    got(
        109,
        "weights as pickle",
        "/v1/models/{model}/weights?format=pkl",
        422,
        "expected one of safetensors",
    ),
    Row(110, "delete a dataset twice", deleted_twice, 404, "there is no "),
]

PREDICTIONS = [
    predicted(100, "a row too short", [[1, 2, 3]], "/instances/0", "expected 4 values"),
    predicted(
        100, "rows of unequal length", [[1, 2, 3, 4], [1]], "/instances/1", "expected 4 values"
    ),
    predicted(
        100, "a string for a number", [[1, 2, 3, "4"]], "/instances/0/3", "expected a number"
    ),
    predicted(100, "true for a number", [[1, 2, 3, True]], "/instances/0/3", "expected a number"),
    predicted(100, "10^1000 for a number", [[1, 2, 3, 10**1000]], "/instances/0/3", "expected a"),
    predicted(100, "no rows", [], "/instances", "expected at least 1 item"),
    predicted(100, "a number for a row", [1], "/instances/0", "expected an object or an array"),
    predicted(100, "rows nested five levels", [[[[[1]]]]], "/instances/0", "expected 4 values"),
    predicted(100, "a list for a number", [[1, 2, 3, [4]]], "/instances/0/3", "expected a number"),
    predicted(100, "100,001 rows", [[1, 2, 3, 4]] * 100_001, "/instances", "at most 100000 items"),
    Row(
        100,
        "NaN for a number",
        lambda w: w.ada.post(
            f"/v1/models/{w.model}/predict", content=b'{"instances": [[NaN]]}', headers=JSON
        ),
        400,
        "NaN is not a number in JSON",
    ),
    Row(
        100,
        "2,000,000 rows",
        lambda w: w.ada.post(
            f"/v1/models/{w.model}/predict",
            content=b'{"instances": [' + b"[]," * 1_300_000 + b"[]]}",
            headers=JSON,
        ),
        422,
        "at most 100000 items",
        "/instances",
    ),
    predicted(
        101,
        "an input too many",
        [{**FLOWER, "colour": 1}],
        "/instances/0/colour",
        "expected an input",
    ),
    asked(
        101,
        "trace a short row",
        "trace",
        {"instance": [1], "target": "setosa"},
        "expected 4",
        "/instance",
    ),
    asked(
        101,
        "trace for an unknown class",
        "trace",
        {"instance": FLOWER, "target": "rose"},
        "expected",
        "/target",
    ),
    asked(
        101,
        "saliency of an unknown class",
        "saliency",
        {"instances": [FLOWER], "output": "rose"},
        "expected",
        "/output",
    ),
]

ROWS = [*MOVES, *PREDICTIONS]
