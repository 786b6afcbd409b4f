"""Bad specs: networks, optimizers and runs that cannot be, and that nobody could train."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.e2e.bad_inputs.rows import JSON, Row, World, spec

NAN = float("nan")


def layers(
    item: int, name: str, pointer: str, says: str, *given: dict[str, Any], status: int = 422
) -> Row:
    return spec(item, name, pointer, says, status, network={"layers": list(given)})


def dense(name: str, units: Any, says: str) -> Row:
    layer = {"type": "dense", "units": units}
    return layers(78, f"units {name}", "/network/layers/0/units", says, layer)


def optimizer(item: int, name: str, field: str, says: str, **given: Any) -> Row:
    return spec(item, name, f"/optimizer/{field}", says, optimizer={"type": "sgd", **given})


def run(item: int, name: str, field: str, says: str, value: Any) -> Row:
    return spec(item, name, f"/training/{field}", says, training={field: value})


def quantiles(name: str, pointer: str, says: str, *levels: float) -> Row:
    loss = {"type": "quantile", "quantiles": levels}
    return spec(82, f"quantiles {name}", f"/loss/{pointer}", says, target="petal_width", loss=loss)


def series(name: str, pointer: str, says: str, **given: Any) -> Row:
    sequence = {"order": "sepal_length", "group": "species", **given}
    return spec(111, name, pointer, says, target="petal_width", sequence=sequence)


def raw(
    item: int, name: str, field: str, value: str, status: int, says: str, pointer: str | None = None
) -> Row:
    """Post a spec with a field that is no JSON, or that no library would write."""

    def send(w: World) -> httpx.Response:
        body = json.dumps(w.spec())[:-1] + f', "{field}": {value}}}'
        return w.ada.post("/v1/jobs", content=body.encode(), headers=JSON)

    return Row(item, name, send, status, says, pointer)


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


NETWORKS = [
    spec(12, "an unknown field", "/epoch", "no such field", epoch=5),
    spec(12, "an unknown field inside", "/training/epoch", "no such field", training={"epoch": 5}),
    spec(77, "a network without layers", "/network/layers", "missing", network={}),
    layers(77, "10,000 layers", "/network/layers", "at most 200", *[{"type": "flatten"}] * 10_000),
    dense("0", 0, "expected at least 1"),
    dense("-1", -1, "expected at least 1"),
    dense("1.5", 1.5, "expected an integer"),
    dense("true", True, "expected an integer"),
    dense('"64"', "64", 'expected an integer, got "64"'),
    dense("10^18", 10**18, "expected at most"),
    layers(
        79,
        "more parameters than allowed",
        "/network",
        "50,000,000",
        {"type": "dense", "units": 10**5},
        {"type": "dense", "units": 10**5},
    ),
    spec(
        79,
        "more memory than allowed",
        "/optimizer",
        "bytes",
        network={"layers": [{"type": "dense", "units": 4900}] * 2},
        optimizer={"type": "lbfgs", "history": 100},
    ),
    layers(
        80,
        "a shape that is not the input's",
        "/network/layers/0/shape",
        "",
        {"type": "reshape", "shape": [1, 3, 3]},
    ),
    layers(
        81,
        "an unknown activation",
        "/network/layers/0/activation",
        "did you mean 'relu'?",
        {"type": "dense", "units": 2, "activation": "rlu"},
    ),
    layers(
        81,
        "an unknown layer",
        "/network/layers/0/type",
        "expected one of dense",
        {"type": "capsule"},
    ),
    layers(
        81,
        "an unknown initializer",
        "/network/layers/0/initializer",
        "expected one of",
        {"type": "dense", "units": 2, "initializer": "ones"},
    ),
    spec(81, "an unknown loss", "/loss", "expected one of cross_entropy", loss="mse"),
    spec(
        81,
        "an unknown optimizer",
        "/optimizer/type",
        "did you mean 'adam'?",
        optimizer={"type": "adams"},
    ),
    spec(82, "three classes for a binary loss", "/loss", "", loss="binary_cross_entropy"),
    spec(82, "a loss for numbers with classes", "/loss", "", loss="huber"),
]

RUNS = [
    optimizer(83, "learning rate 0", "learning_rate", "expected more than 0", learning_rate=0),
    optimizer(83, "learning rate -1", "learning_rate", "expected more than 0", learning_rate=-1),
    optimizer(83, "learning rate 10^308", "learning_rate", "at most 1000000", learning_rate=1e308),
    raw(
        83,
        "learning rate NaN",
        "optimizer",
        '{"type": "sgd", "learning_rate": NaN}',
        400,
        "NaN is not",
    ),
    raw(
        83,
        "learning rate infinite",
        "optimizer",
        '{"type": "sgd", "learning_rate": 1e999}',
        422,
        "finite",
        "/optimizer/learning_rate",
    ),
    optimizer(84, "momentum 1", "momentum", "expected less than 1", momentum=1),
    optimizer(84, "momentum -0.1", "momentum", "expected at least 0", momentum=-0.1),
    spec(
        84,
        "beta2 1.5",
        "/optimizer/beta2",
        "expected less than 1",
        optimizer={"type": "adam", "beta2": 1.5},
    ),
    layers(
        84,
        "dropout 1",
        "/network/layers/0/rate",
        "expected less than 1",
        {"type": "dropout", "rate": 1},
    ),
    run(85, "batch size 0", "batch_size", "expected at least 1", 0),
    run(85, "batch size 10^18", "batch_size", "expected at most", 10**18),
    run(85, "batch size half", "batch_size", "expected", "half"),
    run(86, "epochs 0", "epochs", "expected at least 1", 0),
    run(86, "epochs 10^9", "epochs", "expected at most 1000000", 10**9),
    spec(87, "seed -1", "/seed", "expected at least 0", seed=-1),
    spec(87, "seed 2^64", "/seed", "expected less than", seed=2**64),
    spec(87, "seed 10^1000", "/seed", "expected less than", seed=10**1000),
    spec(87, "seed 1.5", "/seed", "expected an integer", seed=1.5),
    spec(87, 'seed "7"', "/seed", "expected an integer", seed="7"),
    spec(
        88,
        "validation on all rows",
        "/validation/fraction",
        "less than 1",
        validation={"fraction": 1},
    ),
    spec(
        88,
        "validation on less than nothing",
        "/validation/fraction",
        "",
        validation={"fraction": -0.1},
    ),
    spec(
        88,
        "more folds than allowed",
        "/validation/folds",
        "at most 20",
        validation={"folds": 10**9},
    ),
    spec(96, "priority 101", "/priority", "expected at most 100", priority=101),
    spec(96, "priority high", "/priority", "expected an integer", priority="high"),
    spec(
        96,
        "a checkpoint every 0 seconds",
        "/checkpoint/seconds",
        "at least 0.1",
        checkpoint={"seconds": 0},
    ),
]

SERIES = [
    quantiles("that are none", "quantiles", "expected at least 1"),
    quantiles("0", "quantiles/0", "expected more than 0", 0, 0.5),
    quantiles("1", "quantiles/1", "expected less than 1", 0.5, 1),
    quantiles("twice", "quantiles", "0.5 is there twice", 0.1, 0.5, 0.5),
    quantiles("in no order", "quantiles", "0.1 comes after 0.9", 0.9, 0.1),
    quantiles("by the hundred", "quantiles", "at most 99", *(n / 101 for n in range(1, 101))),
    series("a window of 0", "/sequence/window", "expected at least 1", window=0),
    series("a horizon of 0", "/sequence/horizon", "expected at least 1", window=3, horizon=0),
    series(
        "a window longer than the series",
        "/sequence/window",
        "the longest series has 50 rows, window + horizon is 51",
        window=50,
    ),
    series(
        "an order with ties in one series",
        "/sequence/order",
        "every row of a series needs a place of its own",
        window=3,
        group=None,
    ),
    series(
        "recursion over what nobody knows yet",
        "/features",
        "is not known of the steps that are forecast",
        window=3,
        horizon=2,
        strategy="recursive",
    ),
    series(
        "recursion over whole series",
        "/sequence/strategy",
        "give a `window` as well",
        strategy="recursive",
    ),
    series(
        "another strategy",
        "/sequence/strategy",
        "expected one of direct, recursive",
        window=3,
        strategy="iterated",
    ),
]

NAMES = [
    spec(
        89,
        "a dataset that is not there",
        None,
        "there is no dataset",
        404,
        dataset="ds_" + "0" * 32,
    ),
    spec(
        89,
        "a dataset to validate on that is not there",
        None,
        "there is no dataset",
        404,
        validation={"dataset": "ds_" + "0" * 32},
    ),
    spec(89, "a dataset that is no id", "/dataset", "expected an id", dataset="../x"),
    spec(89, "a dataset that is an object", "/dataset", "expected a string", dataset={"id": "x"}),
    *(
        spec(90, f"{key} {where}", pointer, "no such field", **changes)
        for key in ("__type__", "__class__", "__proto__")
        for where, pointer, changes in (
            ("in a spec", f"/{key}", {key: "x"}),
            ("in an optimizer", f"/optimizer/{key}", {"optimizer": {"type": "sgd", key: "x"}}),
        )
    ),
    spec(91, "a name with NUL", "/name", "holds control characters", name="a\0b"),
    raw(91, "a name with half a character", "name", '"\\ud800"', 400, "not UTF-8"),
    spec(91, "a name of 1 MB", "/name", "at most 200 characters", name="x" * 10**6),
    spec(91, "a name of spaces", "/name", "is blank", name="   "),
    spec(91, "an empty name", "/name", "at least 1 character", name=""),
    spec(
        92, "metadata of 1 MB", "/metadata", "at most 16,384 are kept", metadata={"a": "x" * 10**6}
    ),
    spec(92, "metadata of 100 levels", "/metadata", "at most 32 levels", metadata=nested(100)),
    raw(
        92, "metadata with 1e999", "metadata", '{"a": 1e999}', 422, "too large to keep", "/metadata"
    ),
    spec(92, "metadata that is a list", "/metadata", "expected an object", metadata=[1]),
]

ROWS = [*NETWORKS, *RUNS, *SERIES, *NAMES]
