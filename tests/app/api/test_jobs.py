"""Jobs: submitted with a dataset and a target, followed to their end, refused before they train."""

from __future__ import annotations

import hashlib
import io
import re
from datetime import datetime

import numpy as np
import pytest
import redis

from app.dispatch import QUEUE
from app.store import jobs
from app.store.jobs import Signal
from tests.app.api.callers import (
    ABSENT,
    DIGITS,
    IRIS,
    KEYS,
    QUICK,
    SMALL,
    Caller,
    csv,
    each_database,
    parts,
    problem,
    refusal,
    run,
    sampled,
)

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


HEADER = "sepal_length,sepal_width,petal_length,petal_width,species"


@pytest.fixture
def submit(library, iris):
    def send(**changes):
        return library.post("/v1/jobs", json={"dataset": iris, "target": "species", **changes})

    return send


@pytest.fixture
def claimed(ada):
    """A job that a worker has, and the worker's claim."""
    job = ada.job(ada.dataset())
    with parts(ada.app).database.writing() as session:
        return job, jobs.claim(session, job, "worker:1", 30)


@each_database
def test_a_dataset_and_a_target_are_enough(ada):
    dataset = ada.dataset()
    answer = ada.post("/v1/jobs", json={"dataset": dataset, "target": "species"})
    assert answer.status_code == 201
    body = answer.json
    assert answer.headers["Location"] == f"/v1/jobs/{body['id']}"
    assert body["id"].startswith("job_")
    assert datetime.fromisoformat(body.pop("created_at")).utcoffset().total_seconds() == 0
    dense = {"type": "dense", "units": 128, "activation": "relu", "bias": True}
    dense["initializer"] = None
    adam = {"type": "adam", "learning_rate": 0.001, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
    adam |= {"l1": 0.0, "weight_decay": 0.0, "clip_value": None, "clip_norm": None}
    stop = {"target_loss": None, "patience": None, "max_seconds": None}
    features = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    number = {"type": "number", "impute": "median", "scale": "robust"}
    assert body == {
        "id": body["id"],
        "name": None,
        "status": "queued",
        "attempt": 0,
        "progress": {
            "epoch": 0,
            "epochs": 100,
            "fraction": 0.0,
            "eta_seconds": None,
            "samples_per_second": None,
        },
        "metrics": {},
        "model": None,
        "publish": None,
        "publication": None,
        "priority": 0,
        "multiply_adds": 100 * (120 * (17_536 + 34_304) + 30 * 17_536),
        "checkpoint": {"seconds": None, "epochs": None},
        "reproducibility": None,
        "fingerprints": [],
        "notes": [],
        "stop_reason": None,
        "error": None,
        "spec": {
            "dataset": dataset,
            "target": "species",
            "features": features,
            "columns": dict.fromkeys(features, number),
            "task": "classification",
            "network": {"layers": [dense, dense]},
            "loss": {"type": "cross_entropy", "label_smoothing": 0.0},
            "class_weights": None,
            "sequence": None,
            "sample_weight": None,
            "optimizer": adam,
            "schedule": {"type": "constant"},
            "training": {
                "epochs": 100,
                "batch_size": 32,
                "stop": stop,
                "average_decay": None,
                "rows": "memory",
                "watch": False,
            },
            "validation": {"fraction": 0.2},
            "seed": 0,
            "precision": "float32",
        },
        "dataset_sha256": hashlib.sha256(IRIS).hexdigest(),
        "validation_dataset_sha256": None,
        "metadata": None,
        "started_at": None,
        "finished_at": None,
    }
    assert ada.get(answer.headers["Location"]).json == answer.json


@each_database
def test_a_job_trains_to_its_end_and_leaves_a_model(ada):
    job = ada.trained(ada.dataset(), training={"epochs": 5})
    assert job["status"] == "succeeded"
    assert job["attempt"] == 1
    assert job["error"] is None
    assert job["model"].startswith("mdl_")
    progress = job["progress"]
    assert (progress["epoch"], progress["epochs"], progress["fraction"]) == (5, 5, 1.0)
    assert progress["samples_per_second"] > 0
    assert progress["eta_seconds"] is None
    assert {"train_loss", "validation_loss", "accuracy", "macro_f1"} <= set(job["metrics"])
    times = [datetime.fromisoformat(job[f"{at}_at"]) for at in ("created", "started", "finished")]
    assert times == sorted(times)
    assert ada.get(f"/v1/models/{job['model']}").json["job"] == job["id"]


def assert_within(sent, kept):
    """All that was sent is kept; what was not is decided beside it."""
    if isinstance(sent, dict):
        for name, value in sent.items():
            assert_within(value, kept[name])
    elif isinstance(sent, list):
        assert len(sent) == len(kept)
        for a, b in zip(sent, kept, strict=True):
            assert_within(a, b)
    else:
        assert (sent, type(sent)) == (kept, type(kept))


def test_a_spec_with_everything_in_it_is_kept_as_it_was_sent(library, iris):
    spec = {
        "dataset": iris,
        "target": "species",
        "features": ["petal_width", "petal_length"],
        "task": "classification",
        "network": {
            "layers": [
                {"type": "dense", "units": 6, "activation": "tanh", "bias": False},
                {"type": "dropout", "rate": 0.1},
                {"type": "dense", "units": 5, "activation": "identity", "bias": True},
                {"type": "activation", "activation": "sigmoid"},
            ]
        },
        "loss": {"type": "squared_error"},
        "optimizer": {"type": "sgd", "learning_rate": 0.1, "momentum": 0.5, "nesterov": True},
        "schedule": {"type": "cosine", "final": 0.1},
        "training": {
            "epochs": 4,
            "batch_size": "full",
            "stop": {"target_loss": 0.001, "patience": 3, "max_seconds": 60.0},
        },
        "validation": {"fraction": 0.25},
        "seed": 2**63 - 1,
        "precision": "float64",
    }
    named = {"name": "Irises 1", "metadata": {"a": [1, None, {"ü": True}]}}
    answer = library.post("/v1/jobs", json={**spec, **named})
    assert_within(spec, answer.json["spec"])
    assert {name: answer.json[name] for name in named} == named
    run(library.app, answer.json["id"])
    assert library.get(f"/v1/jobs/{answer.json['id']}").json["status"] == "succeeded"


def test_the_spec_of_a_job_sent_back_trains_the_same_network(library, goods):
    layers = [{"type": "dense", "units": 8}, {"type": "dropout", "rate": 0.2}]
    first = library.trained(goods, "grade", network={"layers": layers}, seed=11)
    again = library.post("/v1/jobs", json=first["spec"])
    assert again.json["spec"] == first["spec"]
    run(library.app, again.json["id"])
    second = library.get(f"/v1/jobs/{again.json['id']}").json
    assert second["metrics"] == first["metrics"]
    weights = [library.get(f"/v1/models/{job['model']}/weights").data for job in (first, second)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("target", "task", "loss"),
    [
        ("colour", "classification", "cross_entropy"),
        ("sold", "classification", "cross_entropy"),
        ("grade", "classification", "cross_entropy"),
        ("price", "regression", "squared_error"),
        (["price", "weight"], "regression", "squared_error"),
        (["price"], "regression", "squared_error"),
        (["grade", "sold"], "regression", "squared_error"),
    ],
)
def test_task_and_loss_follow_from_the_target(library, goods, target, task, loss):
    answer = library.post("/v1/jobs", json={"dataset": goods, "target": target})
    spec = answer.json["spec"]
    assert (spec["task"], spec["loss"]["type"], spec["target"]) == (task, loss, target)
    assert set(spec["features"]).isdisjoint([target] if isinstance(target, str) else target)


@each_database
def test_whatever_json_the_metadata_is_comes_back(ada):
    metadata = {"nul": "a\0b", "emoji": "😀", "big": 2**80, "float": 0.1, "list": [[], {}, None]}
    job = ada.job(ada.dataset(), metadata=metadata)
    assert ada.get(f"/v1/jobs/{job}").json["metadata"] == metadata
    assert ada.get("/v1/jobs").json["data"][0]["metadata"] == metadata


DEEP = "is nested too deeply; at most 32 levels are kept"


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ('{"a": 1e400}', "holds a number too large to keep; send it as a string"),
        ('{"a": ' + "[" * 32 + "]" * 32 + "}", DEEP),
        (
            '{"a": ' + "[" * 900 + "]" * 900 + "}",
            DEEP,
        ),
    ],
)
def test_metadata_that_could_not_be_answered_again_is_refused(library, iris, metadata, reason):
    body = f'{{"dataset": "{iris}", "target": "species", "metadata": {metadata}}}'
    answer = library.post("/v1/jobs", data=body, content_type="application/json")
    assert refusal(answer, "/metadata") == reason


def test_metadata_is_kept_up_to_32_levels(submit):
    metadata = {"a": 1}
    for _ in range(30):
        metadata = {"a": metadata}
    assert submit(metadata=metadata).json["metadata"] == metadata


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (TRACE, TRACE),
        (None, None),
        ("", None),
        (TRACE.upper(), None),
        (TRACE[:-1], None),
        (TRACE + "0", None),
        (TRACE + "\t", None),
        ("ff" + TRACE[2:], None),
        (re.sub("-[0-9a-f]{32}-", f"-{'0' * 32}-", TRACE), None),
        (re.sub("-[0-9a-f]{16}-", f"-{'0' * 16}-", TRACE), None),
        ("x" * 10_000, None),
    ],
)
def test_a_trace_is_passed_on_to_the_worker_if_it_is_one(library, iris, sent, kept):
    headers = {"traceparent": sent} if sent is not None else {}
    body = {"dataset": iris, "target": "species"}
    job = library.post("/v1/jobs", json=body, headers=headers).json["id"]
    with parts(library.app).database.writing() as session:
        assert jobs.claim(session, job, "worker:1", 30).traceparent == kept


def test_a_job_is_taken_while_the_broker_is_down(make_app, ada, caplog):
    caller = Caller(make_app(broker_url="redis://127.0.0.1:1/0"), ada.key)
    job = caller.job(caller.dataset())
    assert caller.get(f"/v1/jobs/{job}").json["status"] == "queued"
    assert "the broker does not answer; a worker will find the job" in caplog.text


LAYER = "/network/layers/1/units"


@pytest.mark.parametrize(
    ("units", "reason"),
    [
        ("0", "expected at least 1, got 0"),
        ("-1", "expected at least 1, got -1"),
        ("1.5", "expected an integer, got 1.5"),
        ("64.0", "expected an integer, got 64.0"),
        ("1e12", "expected an integer, got 1000000000000.0"),
        ("true", "expected an integer, got true"),
        ('"64"', 'expected an integer, got "64"'),
        ("null", "expected an integer, got null"),
        ("[64]", "expected an integer, got an array"),
        (f"{10**18}", f"expected at most {2**53}, got {10**18}"),
        ("9" * 400, f"expected at most {2**53}, got a number"),
    ],
)
def test_units_are_a_number_of_units(library, iris, units, reason):
    layers = f'[{{"type": "dropout", "rate": 0}}, {{"type": "dense", "units": {units}}}]'
    network = f'{{"layers": {layers}}}'
    body = f'{{"dataset": "{iris}", "target": "species", "network": {network}}}'
    answer = library.post("/v1/jobs", data=body, content_type="application/json")
    assert refusal(answer, LAYER) == reason


def dense(*units):
    return {"layers": [{"type": "dense", "units": count} for count in units]}


@pytest.mark.parametrize(
    ("units", "count"),
    [
        ([10**12], 8 * 10**12 + 3),
        ([2**53], 8 * 2**53 + 3),
        ([8000, 8000], 4 * 8000 + 8000 + 8000**2 + 8000 + 3 * 8000 + 3),
    ],
)
def test_a_network_over_the_budget_is_refused_with_its_size_and_the_budget(submit, units, count):
    assert refusal(submit(network=dense(*units)), "/network") == (
        f"{count:,} weights and biases (4 inputs, 3 outputs); "
        "the budget is 50,000,000; use fewer or smaller layers"
    )


def test_the_budget_is_the_operators(make_app, ada):
    caller = Caller(make_app(parameter_budget=67), ada.key)
    dataset = caller.dataset()
    assert caller.job(dataset, network=dense(8))  # 4 * 8 + 8 + 8 * 3 + 3 = 67
    body = {"dataset": dataset, "target": "species", "network": dense(9)}
    reason = refusal(caller.post("/v1/jobs", json=body), "/network")
    assert reason.startswith("75 weights and biases (4 inputs, 3 outputs); the budget is 67;")


def test_a_training_over_the_memory_limit_is_refused_with_what_it_takes_and_the_limit(
    make_app, ada
):
    limit = 64 * 2**20
    caller = Caller(make_app(job_memory_bytes=limit), ada.key)
    dataset = caller.dataset()
    assert caller.job(dataset)
    wide = {"dataset": dataset, "target": "species", "network": dense(2000, 2000)}
    reason = refusal(caller.post("/v1/jobs", json=wide), "/network")
    found = re.fullmatch(
        r"about ([\d,]+) bytes of memory, ([\d,]+) of them here; "
        r"the limit is 67,108,864; use fewer or smaller layers",
        reason,
    )
    needed, here = (int(number.replace(",", "")) for number in found.groups())
    assert needed > limit
    assert needed > here > 4 * 2000**2 * 3
    assert len(caller.get("/v1/jobs").json["data"]) == 1


def test_the_rows_of_the_dataset_to_validate_on_are_held_against_the_memory_limit(make_app, ada):
    caller = Caller(make_app(job_memory_bytes=64 * 2**20), ada.key)
    names = b"sepal_length,sepal_width,petal_length,petal_width,species\n"
    rows = b"1,2,3,4,setosa\n1,2,3,4,virginica\n" * 150_000
    many = caller.dataset(names + rows)
    body = {"dataset": caller.dataset(), "target": "species", "validation": {"dataset": many}}
    assert "of them here" in refusal(caller.post("/v1/jobs", json=body), "/dataset")


WIDE_ROWS, WIDE_COLUMNS = 20_000, 150
"""In memory these take more than the least that can be allowed, on disk less."""


@pytest.fixture
def wide(make_app, ada):
    """An owner of a dataset that is too large for memory, and its id."""
    caller = Caller(make_app(job_memory_bytes=80 * 2**20), ada.key)
    rng = np.random.default_rng(0)
    columns = {f"x{n}": rng.normal(size=WIDE_ROWS) for n in range(WIDE_COLUMNS)}
    content = io.BytesIO()
    np.savez(content, **columns, y=columns["x0"] > columns["x1"])
    return caller, caller.dataset(content.getvalue(), "application/x-npz")


def test_rows_that_do_not_fit_into_memory_are_on_disk_and_the_job_says_so(wide):
    caller, dataset = wide
    job = caller.trained(dataset, "y", training={"epochs": 3, "batch_size": 64})
    assert job["spec"]["training"]["rows"] == "disk"
    assert job["status"] == "succeeded"
    assert job["metrics"]["accuracy"] > 0.6
    again = caller.post("/v1/jobs", json=job["spec"])
    assert again.json["spec"] == job["spec"]
    asked = {"dataset": dataset, "target": "y", "training": {"rows": "memory"}}
    reason = refusal(caller.post("/v1/jobs", json=asked), "/dataset")
    assert reason.endswith('or leave them on disk: {"training": {"rows": "disk"}}')
    asked = {"dataset": dataset, "target": "y", "validation": {"folds": 2}}
    assert caller.post("/v1/jobs", json=asked).status_code == 422
    asked["training"] = {"rows": "disk"}
    assert "`fraction`" in refusal(caller.post("/v1/jobs", json=asked), "/training/rows")


def test_rows_that_fit_into_memory_are_there_unless_asked_otherwise(library, iris):
    for asked, place in (({}, "memory"), ({"rows": None}, "memory"), ({"rows": "disk"}, "disk")):
        body = {"dataset": iris, "target": "species", "training": {"epochs": 1, **asked}}
        assert library.post("/v1/jobs", json=body).json["spec"]["training"]["rows"] == place


def test_the_number_of_layers_is_bounded(submit):
    layers = [{"type": "dense", "units": 1}] * 201
    reason = refusal(submit(network={"layers": layers}), "/network/layers")
    assert reason == "expected at most 200 items, got an array"
    assert submit(network={"layers": []}).status_code == 201


@pytest.mark.parametrize(
    ("rate", "reason"),
    [
        ("0", "expected more than 0, got 0"),
        ("-0.1", "expected more than 0, got -0.1"),
        ("1e400", "expected a finite number, got Infinity"),
        ("-1e400", "expected a finite number, got -Infinity"),
        ("1e308", "expected at most 1000000, got 1e+308"),
        ("true", "expected a number, got true"),
        ('"0.1"', 'expected a number, got "0.1"'),
        ("null", "expected a number, got null"),
    ],
)
def test_a_learning_rate_is_a_small_positive_number(library, iris, rate, reason):
    optimizer = f'{{"type": "adam", "learning_rate": {rate}}}'
    body = f'{{"dataset": "{iris}", "target": "species", "optimizer": {optimizer}}}'
    answer = library.post("/v1/jobs", data=body, content_type="application/json")
    assert refusal(answer, "/optimizer/learning_rate") == reason


THERE_ARE = "; there are 'sepal_length', 'sepal_width', 'petal_length', 'petal_width', 'species'"

UNFIT = [
    ({"target": "specie"}, "/target", "no column 'specie'; did you mean 'species'?"),
    ({"target": "zzz"}, "/target", f"the dataset has no column 'zzz'{THERE_ARE}"),
    ({"target": "a\0b"}, "/target", f"the dataset has no column 'a\\x00b'{THERE_ARE}"),
    ({"target": ["petal_width", "petal_lenght"]}, "/target/1", "did you mean 'petal_length'?"),
    ({"target": ["petal_width", "petal_width"]}, "/target/0", "'petal_width' is given twice"),
    ({"target": ["petal_width", "species"]}, "/task", "regression needs numbers"),
    ({"features": ["petal_lenght"]}, "/features/0", "did you mean 'petal_length'?"),
    ({"features": ["petal_width", "species"]}, "/features/1", "'species' is the target; leave it"),
    ({"features": ["petal_width"] * 2}, "/features/0", "'petal_width' is given twice"),
    ({"task": "regression"}, "/task", "regression needs numbers; ask for classification"),
    (
        {"target": ["petal_width", "petal_length"], "task": "classification"},
        "/target",
        "classification has one target; several are for regression",
    ),
    (
        {"target": "petal_width", "loss": "cross_entropy"},
        "/loss",
        "cross_entropy is not for regression; squared_error, absolute_error, huber, log_cosh, "
        "quantile, poisson are",
    ),
]


@pytest.mark.parametrize(("changes", "path", "reason"), UNFIT)
def test_a_spec_that_does_not_fit_the_dataset_is_refused(submit, changes, path, reason):
    answer = submit(**changes)
    assert reason in refusal(answer, path)
    assert answer.json["title"] == "The network or training spec is not valid."


FILL = "fill or remove these rows and upload again"

UNUSABLE = [
    (["x,y", "1,a", "2,a"], "/target", "column 'y' holds one class, 'a'"),
    (["x,y", "1,", "2,nan"], "/target", "'y' has no value in any of its 2 rows"),
    (["x,y", "1,2026-01-02", "2,2026-01-03"], "/target", "is timestamp; it cannot be predicted"),
    (["x,y", "1,a", "2,b", "-inf,b"], "/features", "1 infinite, the first in row 3; " + FILL),
    (["x,y", "1,a", "1e999,b", "inf,a"], "/features", "2 infinite, the first in row 2; " + FILL),
    (["y", "a", "b"], "/features", "the dataset has no column beside the target"),
]


@pytest.mark.parametrize(("lines", "path", "reason"), UNUSABLE)
def test_data_that_cannot_be_trained_on_is_refused_before_training(library, lines, path, reason):
    dataset = library.dataset(csv(*lines))
    answer = library.post("/v1/jobs", json={"dataset": dataset, "target": "y"})
    assert reason in refusal(answer, path)


def test_a_single_feature_that_is_named_is_pointed_to(library):
    dataset = library.dataset(csv("x,z,y", "1,inf,a", "2,2,b"))
    body = {"dataset": dataset, "target": "y", "features": ["x", "z"]}
    assert "1 infinite" in refusal(library.post("/v1/jobs", json=body), "/features/1")
    body["features"] = ["x"]
    assert library.post("/v1/jobs", json=body).status_code == 201


def test_one_row_cannot_be_divided(library):
    dataset = library.dataset(csv("x,y", "1,0.5"))
    body = {"dataset": dataset, "target": "y", "validation": {"fraction": 0.5}}
    reason = refusal(library.post("/v1/jobs", json=body), "/validation/fraction")
    assert reason == "one row cannot be divided; 0 would do"


def test_there_are_no_more_folds_than_rows(library):
    dataset = library.dataset(csv("x,y", "1,0.5", "2,0.7"))
    body = {"dataset": dataset, "target": "y", "validation": {"folds": 3}}
    reason = refusal(library.post("/v1/jobs", json=body), "/validation/folds")
    assert reason == "there are 2 rows; at most as many would do"


def test_a_job_is_validated_by_folds_and_shows_how_far_they_are_apart(library):
    job = library.trained(library.dataset(), validation={"folds": 5})
    assert (job["status"], job["stop_reason"]) == ("succeeded", "epochs")
    assert job["spec"]["validation"] == {"folds": 5}
    points = library.get(f"/v1/jobs/{job['id']}/curve").json["points"]
    assert [point["epoch"] for point in points] == [1, 2, 3]
    for name in ("validation_loss", "accuracy", "log_loss"):
        assert points[0][f"{name}_deviation"] > 0
        assert f"{name}_deviation" in job["metrics"]
    best = min(points, key=lambda point: point["validation_loss"])
    assert job["metrics"]["validation_loss"] == best["validation_loss"]
    again = {name: value for name, value in job["spec"].items() if value is not None}
    assert library.post("/v1/jobs", json=again).json["spec"] == job["spec"]


def test_a_job_says_which_rule_ended_it(library):
    dataset = library.dataset()
    rules = {"target_loss": {"target_loss": 50.0}, "epochs": {}}
    for reason, stop in rules.items():
        job = library.trained(dataset, training={"epochs": 2, "stop": stop})
        assert job["stop_reason"] == reason


# The datasets that a job was accepted with.


@each_database
def test_a_job_tells_the_digests_of_its_datasets_also_once_they_are_gone(ada):
    files = [IRIS, IRIS + b"5.1,3.5,1.4,0.2,setosa\n"]
    training, other = (ada.dataset(file) for file in files)
    digests = [ada.get(f"/v1/datasets/{dataset}").json["sha256"] for dataset in (training, other)]
    assert digests == [hashlib.sha256(file).hexdigest() for file in files]
    job = ada.trained(training, validation={"dataset": other})
    for dataset in (training, other):
        assert ada.delete(f"/v1/datasets/{dataset}").status_code == 204
    found = ada.get(f"/v1/jobs/{job['id']}").json
    assert [found["dataset_sha256"], found["validation_dataset_sha256"]] == digests


# Another dataset to validate on.


@each_database
def test_a_job_is_validated_on_another_dataset(ada):
    training, other = ada.dataset(), ada.dataset(IRIS + b"5.1,3.5,1.4,0.2,setosa\n")
    job = ada.job(training, validation={"dataset": other})
    reason = problem(ada.delete(f"/v1/datasets/{other}"), 409)["detail"]
    assert reason == f"dataset: job {job} uses it; cancel it or wait for its end"
    run(ada.app, job)
    done = ada.get(f"/v1/jobs/{job}").json
    assert done["status"] == "succeeded"
    assert done["spec"]["validation"] == {"dataset": other}
    model = done["model"]
    measured = ada.post(f"/v1/models/{model}/evaluate", json={"dataset": other}).json
    assert measured["rows"] == 151
    assert measured["metrics"]["accuracy"] == pytest.approx(done["metrics"]["accuracy"])
    assert ada.delete(f"/v1/datasets/{other}").status_code == 204
    assert ada.get(f"/v1/jobs/{job}").json["spec"]["validation"] == {"dataset": other}


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        (
            ("width,species", "1,setosa", "2,virginica"),
            "the dataset has no column 'sepal_length'",
        ),
        (
            (HEADER, "long,1,1,1,setosa", "short,2,2,2,virginica"),
            "column 'sepal_length' is category there, and number here; both must be alike",
        ),
        (
            (HEADER, "1,1,1,1,setosa", "2,2,2,inf,virginica"),
            "column 'petal_width' has 1 infinite, the first in row 2; "
            "fill or remove these rows and upload again",
        ),
    ],
)
def test_a_dataset_that_is_not_alike_is_refused_to_validate_on(library, columns, reason):
    body = {"dataset": library.dataset(), "target": "species"}
    body["validation"] = {"dataset": library.dataset(csv(*columns))}
    assert refusal(library.post("/v1/jobs", json=body), "/validation/dataset").startswith(reason)


def test_a_class_that_is_only_validated_on_fails_the_job_in_words(library):
    other = library.dataset(csv(HEADER, "1,1,1,1,setosa", "2,2,2,2,tulip"))
    job = library.trained(library.dataset(), validation={"dataset": other})
    assert (job["status"], job["error"]["code"]) == ("failed", "invalid_data")
    assert "tulip" in job["error"]["detail"]


def test_somebody_elses_dataset_is_not_there_to_validate_on(ada, charles):
    body = {"dataset": ada.dataset(), "target": "species"}
    for other in (charles.dataset(), f"ds_{ABSENT}"):
        body["validation"] = {"dataset": other}
        detail = problem(ada.post("/v1/jobs", json=body), 404)["detail"]
        assert detail == f"there is no dataset '{other}'"


@pytest.mark.parametrize("whose", ["absent", "another's", "another kind", "deleted"])
def test_a_job_on_a_dataset_that_is_not_ones_own_is_refused(ada, charles, whose):
    deleted = ada.dataset()
    ada.delete(f"/v1/datasets/{deleted}")
    asked = {
        "absent": f"ds_{ABSENT}",
        "another's": charles.dataset(),
        "another kind": f"job_{ABSENT}",
        "deleted": deleted,
    }[whose]
    answer = ada.post("/v1/jobs", json={"dataset": asked, "target": "species"})
    assert problem(answer, 404)["detail"] == f"there is no dataset '{asked}'"
    assert ada.get("/v1/jobs").json["data"] == []


@each_database
def test_a_job_that_waits_is_cancelled_at_once(ada):
    job = ada.job(ada.dataset())
    answer = ada.post(f"/v1/jobs/{job}/cancel")
    assert answer.status_code == 200
    assert answer.json["status"] == "cancelled"
    assert answer.json["finished_at"] is not None
    assert ada.get(f"/v1/jobs/{job}").json == answer.json
    run(ada.app, job)
    assert ada.get(f"/v1/jobs/{job}").json["status"] == "cancelled"


@each_database
def test_a_job_that_runs_is_cancelled_by_its_worker(ada, claimed):
    job, claim = claimed
    answer = ada.post(f"/v1/jobs/{job}/cancel")
    assert answer.status_code == 200
    assert answer.json["status"] == "running"
    assert ada.post(f"/v1/jobs/{job}/cancel").status_code == 200
    with parts(ada.app).database.writing() as session:
        assert jobs.heartbeat(session, claim, 30) is Signal.CANCEL
        jobs.finish_cancelled(session, claim)
    assert ada.get(f"/v1/jobs/{job}").json["status"] == "cancelled"


@pytest.mark.parametrize("ended", ["succeeded", "cancelled"])
def test_a_job_that_has_ended_cannot_be_cancelled(ada, ended):
    job = ada.job(ada.dataset())
    run(ada.app, job) if ended == "succeeded" else ada.post(f"/v1/jobs/{job}/cancel")
    before = ada.get(f"/v1/jobs/{job}").json
    assert before["status"] == ended
    refused = problem(ada.post(f"/v1/jobs/{job}/cancel"), 409)
    assert refused["title"] == "The job cannot do that now."
    assert job in refused["detail"]
    assert ada.get(f"/v1/jobs/{job}").json == before


@each_database
def test_a_job_that_waits_is_put_aside_at_once_and_gone_on_with_when_asked(ada):
    job = ada.job(ada.dataset())
    paused = ada.post(f"/v1/jobs/{job}/pause")
    assert (paused.status_code, paused.json["status"]) == (200, "paused")
    assert paused.json["finished_at"] is None
    run(ada.app, job)
    assert ada.get(f"/v1/jobs/{job}").json == paused.json
    resumed = ada.post(f"/v1/jobs/{job}/resume")
    assert (resumed.status_code, resumed.json["status"]) == (200, "queued")
    run(ada.app, job)
    assert ada.get(f"/v1/jobs/{job}").json["status"] == "succeeded"


@each_database
def test_a_job_that_runs_is_put_aside_by_its_worker(ada, claimed):
    job, claim = claimed
    for _ in range(2):
        answer = ada.post(f"/v1/jobs/{job}/pause")
        assert (answer.status_code, answer.json["status"]) == (200, "running")
    with parts(ada.app).database.writing() as session:
        assert jobs.heartbeat(session, claim, 30) is Signal.PAUSE
        jobs.requeue(session, claim)
    assert ada.get(f"/v1/jobs/{job}").json["status"] == "paused"
    assert ada.post(f"/v1/jobs/{job}/resume").json["status"] == "queued"


@each_database
def test_a_pause_that_the_worker_has_not_heard_of_is_taken_back(ada, claimed):
    job, claim = claimed
    ada.post(f"/v1/jobs/{job}/pause")
    answer = ada.post(f"/v1/jobs/{job}/resume")
    assert (answer.status_code, answer.json["status"]) == (200, "running")
    with parts(ada.app).database.writing() as session:
        assert jobs.heartbeat(session, claim, 30) is Signal.GO


@pytest.mark.parametrize(
    ("status", "move", "target"),
    [
        ("paused", "pause", "paused"),
        ("succeeded", "pause", "paused"),
        ("cancelled", "pause", "paused"),
        ("queued", "resume", "queued"),
        ("running", "resume", "queued"),
        ("succeeded", "resume", "queued"),
        ("cancelled", "resume", "queued"),
    ],
)
def test_a_move_that_cannot_be_made_is_refused_with_the_status(ada, status, move, target):
    job = ada.job(ada.dataset())
    if status == "running":
        with parts(ada.app).database.writing() as session:
            jobs.claim(session, job, "worker:1", 30)
    elif status == "succeeded":
        run(ada.app, job)
    elif status != "queued":
        ada.post(f"/v1/jobs/{job}/{'pause' if status == 'paused' else 'cancel'}")
    before = ada.get(f"/v1/jobs/{job}").json
    refused = problem(ada.post(f"/v1/jobs/{job}/{move}"), 409)
    assert refused["title"] == "The job cannot do that now."
    assert refused["detail"] == f"{job} is {status}; it cannot become {target} now"
    assert ada.get(f"/v1/jobs/{job}").json == before


def test_a_pause_that_is_sent_twice_with_one_key_is_one_pause(ada):
    job = ada.job(ada.dataset())
    first, _, again = (
        ada.post(f"/v1/jobs/{job}/{move}", headers={"Idempotency-Key": move})
        for move in ("pause", "resume", "pause")
    )
    assert (again.status_code, again.data) == (200, first.data)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert ada.get(f"/v1/jobs/{job}").json["status"] == "queued"


def test_the_doorbell_rings_for_a_job_that_is_resumed(make_app, redis_url):
    caller = Caller(make_app(broker_url=redis_url), KEYS["ada"])
    job = caller.job(caller.dataset())
    with redis.Redis.from_url(redis_url) as broker:
        for move, messages in (("pause", 1), ("resume", 2), ("resume", 2)):
            caller.post(f"/v1/jobs/{job}/{move}")
            assert broker.llen(QUEUE) == messages


@each_database
def test_a_live_job_cannot_be_deleted(ada, claimed):
    job, _ = claimed
    waiting = ada.job(ada.dataset())
    for live, status in ((job, "running"), (waiting, "queued")):
        refused = problem(ada.delete(f"/v1/jobs/{live}"), 409)
        assert refused["detail"] == f"job: {live} is {status}; cancel it first"


@each_database
def test_a_job_that_is_deleted_is_gone_and_its_model_stays(ada):
    job = ada.trained(ada.dataset())
    where = f"/v1/jobs/{job['id']}"
    answer = ada.delete(where)
    assert (answer.status_code, answer.data) == (204, b"")
    for gone in (ada.get(where), ada.get(f"{where}/curve"), ada.delete(where)):
        assert problem(gone, 404)["detail"] == f"there is no job '{job['id']}'"
    assert ada.get(f"/v1/models/{job['model']}").json["job"] is None


@pytest.mark.parametrize("whose", ["absent", "another's", "another kind"])
@pytest.mark.parametrize(
    ("method", "rest"),
    [
        ("GET", ""),
        ("GET", "?wait=5"),
        ("GET", "/curve"),
        ("GET", "/events"),
        ("POST", "/cancel"),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("DELETE", ""),
    ],
)
def test_a_job_that_is_not_ones_own_is_not_there(library, neighbour, whose, method, rest):
    theirs = neighbour.job(neighbour.dataset())
    asked = {"absent": f"job_{ABSENT}", "another's": theirs, "another kind": f"ds_{ABSENT}"}[whose]
    refused = problem(library.call(method, f"/v1/jobs/{asked}{rest}"), 404)
    assert refused["detail"] == f"there is no job '{asked}'"
    assert neighbour.get(f"/v1/jobs/{theirs}").json["status"] == "queued"


@each_database
def test_jobs_are_listed_by_status_dataset_and_name(ada, charles):
    first, second = ada.dataset(), ada.dataset(sampled())
    a = ada.job(first, name="one")
    b = ada.job(second, "price", name="two")
    c = ada.job(first, name="two")
    charles.job(charles.dataset(), name="two")
    ada.post(f"/v1/jobs/{c}/cancel")

    def listed(query):
        answer = ada.get(f"/v1/jobs{query}")
        return [job["id"] for job in answer.json["data"]]

    assert listed("") == [c, b, a]
    assert listed("?status=queued") == [b, a]
    assert listed("?status=cancelled") == [c]
    assert listed("?status=running") == []
    assert listed(f"?dataset={first}") == [c, a]
    assert listed("?name=two") == [c, b]
    assert listed(f"?name=two&dataset={first}&status=cancelled") == [c]
    assert listed(f"?dataset=ds_{ABSENT}") == []
    assert listed("?name=%27%20OR%201=1") == []
    assert ada.get("/v1/jobs?name=two").json["data"][0] == ada.get(f"/v1/jobs/{c}").json


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("status=done", "/status"),
        ("status=QUEUED", "/status"),
        ("status=", "/status"),
        ("name=", "/name"),
        ("name=%00", "/name"),
        ("dataset=%00", "/dataset"),
        ("dataset=a'--", "/dataset"),
        ("sort=name", "/sort"),
        ("order_by=id;DROP", "/order_by"),
    ],
)
def test_a_filter_that_is_none_is_refused(library, query, path):
    refusal(library.get(f"/v1/jobs?{query}"), path)


def diverging(caller):
    dataset = caller.dataset(sampled())
    optimizer = {"type": "sgd", "learning_rate": 30.0, "momentum": 0.0}
    training = {"epochs": 1000, "batch_size": "full"}
    return caller.trained(dataset, "price", optimizer=optimizer, training=training, network=SMALL)


@each_database
def test_a_job_that_diverges_fails_with_the_epoch_and_advice_and_keeps_its_curve(ada):
    job = diverging(ada)
    assert job["status"] == "failed"
    assert job["model"] is None
    assert job["finished_at"] is not None
    error = job["error"]
    assert error["code"] == "diverged"
    epoch = int(re.search(r"stopped being a finite number in epoch (\d+)", error["detail"])[1])
    assert epoch > 1
    assert "try a learning rate ten times smaller" in error["detail"]
    curve = ada.get(f"/v1/jobs/{job['id']}/curve")
    points = curve.json["points"]
    assert [point["epoch"] for point in points] == list(range(1, epoch))
    assert points[-1]["train_loss"] > points[0]["train_loss"]
    assert "NaN" not in curve.text
    assert "Infinity" not in curve.text
    drawn = ada.get(f"/v1/jobs/{job['id']}/curve", headers={"Accept": "image/png"})
    assert drawn.status_code == 200


def test_early_stopping_is_seen_in_the_progress(library, iris):
    stop = {"target_loss": 100.0}
    job = library.trained(iris, training={"epochs": 50, "stop": stop})
    assert job["status"] == "succeeded"
    assert job["progress"]["epoch"] == 1
    assert job["progress"]["fraction"] == 1.0


def test_digits_train_from_a_packed_file(library):
    job = library.trained(library.dataset(DIGITS), "digit", **QUICK)
    assert job["spec"]["task"] == "classification"
    assert len(job["spec"]["features"]) == 64
