"""Models: what they take and answer, predictions in the dataset's own words, and the weights."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnxruntime import InferenceSession
from safetensors.numpy import load

from app.api import models
from app.export import layers
from tests.app.api.callers import (
    ABSENT,
    Caller,
    csv,
    each_database,
    parts,
    problem,
    refusal,
    sampled,
)

SETOSA = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
VIRGINICA = {"sepal_length": 6.3, "sepal_width": 3.3, "petal_length": 6.0, "petal_width": 2.5}
BOOLEAN = "expected true or false, or a word for it such as 'yes'"
GOOD = {"size": 3.0, "count": 4, "fresh": True, "colour": "red"}


def row(instance):
    return list(instance.values())


def predictions(answer):
    assert answer.status_code == 200, answer.text
    return answer.json["predictions"]


@each_database
def test_a_model_says_what_it_takes_and_answers(ada):
    dataset = ada.dataset(sampled())
    features = ["size", "fresh", "colour"]
    job = ada.trained(dataset, "grade", features=features)
    body = ada.get(f"/v1/models/{job['model']}").json
    assert body.pop("created_at") >= job["started_at"]
    assert body.pop("bytes") > 0
    colours = ["blue", "green", "red"]
    plain = {"levels": None, "shape": None, "required": False}
    size, fresh, colour = body.pop("preprocessing")
    assert 2 < size.pop("fill") == size.pop("center") < 4
    assert size.pop("factor") > 0
    number = {"impute": "median", "scale": "robust", "missing_flag": False, "inputs": 1}
    open_ = dict.fromkeys(["encode", "levels", "other", "missing"])
    assert size == {"column": "size", "type": "number", **number, **open_}
    assert (fresh["type"], fresh["inputs"]) == ("boolean", 1)
    assert colour == {
        **dict.fromkeys(["fill", "missing_flag", "center", "factor"]),
        "column": "colour",
        "type": "category",
        "inputs": 3,
        "encode": "one_hot",
        "impute": "level",
        "scale": "robust",
        "levels": 3,
        "other": False,
        "missing": False,
    }
    assert body == {
        "id": job["model"],
        "job": job["id"],
        "task": "classification",
        "inputs": [
            {"name": "size", "type": "number", **plain},
            {"name": "fresh", "type": "boolean", **plain},
            {"name": "colour", "type": "category", **plain, "levels": colours},
        ],
        "outputs": ["grade"],
        "classes": [0, 1, 2, 3],
        "sequence": None,
        "metrics": job["metrics"],
        "parameters": 5 * 8 + 8 + 8 * 4 + 4,
    }
    [listed] = ada.get("/v1/models").json["data"]
    assert listed == ada.get(f"/v1/models/{job['model']}").json


def test_a_tensor_says_its_shape_and_is_predicted_from(library):
    packed = io.BytesIO()
    images = np.random.default_rng(3).normal(size=(40, 2, 3))
    np.savez(packed, image=images, y=(images.sum(axis=(1, 2)) > 0).astype(int))
    model = library.model(library.dataset(packed.getvalue(), "application/x-npz"), "y")
    [described] = library.get(f"/v1/models/{model}").json["inputs"]
    assert described.pop("required")
    assert described == {"name": "image", "type": "tensor", "levels": None, "shape": [2, 3]}
    nested, flat = images[0].tolist(), images[0].ravel().tolist()
    [a, b, c] = predictions(library.predict(model, [{"image": nested}, {"image": flat}, [nested]]))
    assert a == b == c
    turned, ragged, words = images[0].T.tolist(), [[1, 2, 3], [4, 5]], [["a"] * 3] * 2
    for wrong in (turned, ragged, words, flat[:-1], 5, "x", None):
        answer = library.predict(model, [{"image": wrong}])
        assert "shape [2, 3]" in refusal(answer, "/instances/0/image")
    deep = 1
    for _ in range(100):
        deep = [deep]
    refusal(library.predict(model, [{"image": deep}]), "/instances/0/image")


def test_a_boolean_in_words_stays_in_words(library):
    lines = [f"{'yes' if n % 2 else 'no'},{'N' if n % 2 else 'Y'}" for n in range(60)]
    dataset = library.dataset("\n".join(["paid,late", *lines]).encode())
    assert library.get(f"/v1/datasets/{dataset}/rows?limit=1").json["data"] == [
        {"paid": "no", "late": "Y"}
    ]
    fast = {"optimizer": {"type": "adam", "learning_rate": 0.1}, "training": {"epochs": 15}}
    model = library.model(dataset, "late", class_weights={"Y": 2}, **fast)
    described = library.get(f"/v1/models/{model}").json
    assert described["classes"] == ["N", "Y"]
    assert described["inputs"][0]["levels"] == ["no", "yes"]
    rows = [{"paid": paid} for paid in ("yes", True, "No", False)]
    found = predictions(library.predict(model, rows))
    assert [each["label"] for each in found] == ["N", "N", "Y", "Y"]
    assert found[0] == found[1]
    assert set(found[0]["probabilities"]) == {"N", "Y"}
    assert evaluate(library, model, dataset).json["metrics"]["accuracy"] == 1


def test_a_class_comes_with_the_probability_of_each(library, iris_model):
    answer = library.predict(iris_model, [SETOSA, VIRGINICA])
    assert answer.json["model"] == iris_model
    first, second = predictions(answer)
    assert (first["label"], second["label"]) == ("setosa", "virginica")
    for found in (first, second):
        assert set(found) == {"label", "probabilities"}
        assert list(found["probabilities"]) == ["setosa", "versicolor", "virginica"]
        assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-6)
        assert max(found["probabilities"], key=found["probabilities"].get) == found["label"]


def test_a_row_may_be_an_array_in_the_order_of_the_inputs(library, iris_model):
    shuffled = dict(reversed(SETOSA.items()))
    [a, b, c] = predictions(library.predict(iris_model, [SETOSA, row(SETOSA), shuffled]))
    assert a == b == c


def test_a_row_is_answered_the_same_alone_and_among_others(library, iris_model):
    rows = [[4 + n / 7, 2 + n / 9, 1 + n / 5, n / 20] for n in range(50)]
    together = predictions(library.predict(iris_model, rows))
    for number in (0, 17, 49):
        [alone] = predictions(library.predict(iris_model, [rows[number]]))
        assert alone["label"] == together[number]["label"]
        assert alone["probabilities"] == pytest.approx(together[number]["probabilities"], abs=1e-6)


def test_many_callers_are_answered_the_same(library, iris_model):
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: library.predict(iris_model, [SETOSA]).json, range(64)))
    assert all(answer == answers[0] for answer in answers)


def test_a_label_has_the_type_that_it_had_in_the_dataset(library, digits_model, goods):
    [found] = predictions(library.predict(digits_model, [[0] * 64]))
    assert type(found["label"]) is int
    assert list(found["probabilities"]) == [str(digit) for digit in range(10)]
    sold = library.model(goods, "sold", features=["size"])
    [found] = predictions(library.predict(sold, [{"size": 4.9}]))
    assert type(found["label"]) is bool
    assert list(found["probabilities"]) == ["false", "true"]
    half = library.dataset(csv("x,y", *[f"{n},{n % 2 + 0.5}" for n in range(20)]))
    model = library.model(half, "y", task="classification")
    [found] = predictions(library.predict(model, [[3]]))
    assert found["label"] in (0.5, 1.5)
    assert list(found["probabilities"]) == ["0.5", "1.5"]


def test_a_regression_answers_in_the_units_of_its_target(library, price_model):
    small, large = {**GOOD, "size": 1.5}, {**GOOD, "size": 4.5}
    found = predictions(library.predict(price_model, [small, large]))
    assert [set(one) for one in found] == [{"value"}, {"value"}]
    assert found[0]["value"] == pytest.approx(1190, abs=60)
    assert found[1]["value"] == pytest.approx(1490, abs=60)


def test_several_targets_are_answered_by_name_each_in_its_units(library, goods):
    training = {"epochs": 60, "batch_size": 8}
    optimizer = {"type": "adam", "learning_rate": 0.02}
    spec = {"features": ["size"], "training": training, "optimizer": optimizer}
    model = library.model(goods, ["price", "weight"], **spec)
    [found] = predictions(library.predict(model, [[3.0]]))
    assert set(found) == {"values"}
    assert list(found["values"]) == ["price", "weight"]
    assert found["values"]["price"] == pytest.approx(1340, abs=80)
    assert found["values"]["weight"] == pytest.approx(0.003, abs=0.001)
    described = library.get(f"/v1/models/{model}").json
    assert (described["task"], described["outputs"]) == ("regression", ["price", "weight"])
    assert described["classes"] is None


FOUR = "expected 4 values in the order of the model's inputs"
NO_INPUT = "expected an input of the model, got none"
THERE_ARE = "; there are 'sepal_length', 'sepal_width', 'petal_length', 'petal_width'"

WRONG_ROWS = [
    ([], "/instances", "expected at least 1 item(s), got an array"),
    ({}, "/instances", "expected an array, got an object"),
    (None, "/instances", "expected an array, got null"),
    ("x", "/instances", 'expected an array, got "x"'),
    ([5], "/instances/0", "expected an object or an array"),
    ([SETOSA, "x"], "/instances/1", "expected an object or an array"),
    ([None], "/instances/0", "expected an object or an array"),
    ([[]], "/instances/0", f"{FOUR}, got 0"),
    ([[1, 2, 3]], "/instances/0", f"{FOUR}, got 3"),
    ([row(SETOSA), [1, 2, 3, 4, 5]], "/instances/1", f"{FOUR}, got 5"),
    ([[[5.1, 3.5, 1.4, 0.2]]], "/instances/0", f"{FOUR}, got 1"),
    ([[1, 2, 3, [4]]], "/instances/0/3", "expected a number, got an array"),
    ([[1, 2, "3", 4]], "/instances/0/2", "expected a number, got the string '3'"),
    ([[1, True, 3, 4]], "/instances/0/1", "expected a number, got a boolean (true)"),
    ([[10**400, 2, 3, 4]], "/instances/0/0", f"expected a finite number, got 1{'0' * 39}"),
    ([{**SETOSA, "sepal_width": "3"}], "/instances/0/sepal_width", "got the string '3'"),
    ([SETOSA, {**SETOSA, "sepal_width": {}}], "/instances/1/sepal_width", "got an object"),
    ([{**SETOSA, "colour": "red"}], "/instances/0/colour", f"{NO_INPUT}{THERE_ARE}"),
    ([{**SETOSA, "species": "rose"}], "/instances/0/species", f"{NO_INPUT}{THERE_ARE}"),
    ([{"sepal_lenght": 5}], "/instances/0/sepal_lenght", "; did you mean 'sepal_length'?"),
    ([{**SETOSA, "a/b~": 5}], "/instances/0/a~1b~0", NO_INPUT),
]


@pytest.mark.parametrize(("instances", "path", "reason"), WRONG_ROWS)
def test_an_instance_that_is_wrong_is_pointed_to(library, iris_model, instances, path, reason):
    answer = library.predict(iris_model, instances)
    assert reason in refusal(answer, path)
    assert answer.json["title"] == "The request is not valid."


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1.75e308"])
def test_a_number_that_no_computer_holds_is_refused(library, iris_model, number):
    body = f'{{"instances": [[5.1, 3.5, 1.4, {number}]]}}'
    path = f"/v1/models/{iris_model}/predict"
    answer = library.post(path, data=body, content_type="application/json")
    assert "expected a finite number" in refusal(answer, "/instances/0/3")


def test_a_number_far_from_all_that_was_seen_is_answered_with_probabilities(library, iris_model):
    for far in (1e300, -1e300, 1.6e308, 5e-324):
        [found] = predictions(library.predict(iris_model, [[far, far, far, far]]))
        assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("colour", 1, "expected a string, got a number (1)"),
        ("colour", ["red"], "expected a string, got an array"),
        ("fresh", 1, f"{BOOLEAN}, got a number (1)"),
        ("fresh", "red", f"{BOOLEAN}, got the string 'red'"),
        ("count", "4", "expected a number, got the string '4'"),
        ("count", True, "expected a number, got a boolean (true)"),
        ("size", {}, "expected a number, got an object"),
    ],
)
def test_a_value_of_another_kind_is_pointed_to(library, price_model, name, value, reason):
    answer = library.predict(price_model, [GOOD, {**GOOD, name: value}])
    assert refusal(answer, f"/instances/1/{name}") == reason


def test_more_rows_than_can_be_taken_are_refused(library, iris_model):
    answer = library.predict(iris_model, [[]] * 100_001)
    assert refusal(answer, "/instances") == "expected at most 100000 items, got an array"


@pytest.mark.parametrize(
    ("body", "path", "reason"),
    [
        ({"instances": [SETOSA], "colour": 1}, "/colour", "no such field"),
        ({}, "/instances", "missing"),
    ],
)
def test_a_prediction_takes_instances_and_nothing_else(library, iris_model, body, path, reason):
    answer = library.post(f"/v1/models/{iris_model}/predict", json=body)
    assert refusal(answer, path) == reason


def evaluate(caller, model, dataset):
    return caller.post(f"/v1/models/{model}/evaluate", json={"dataset": dataset})


@each_database
def test_a_model_is_measured_on_a_dataset(ada):
    dataset = ada.dataset()
    model = ada.model(dataset)
    answer = evaluate(ada, model, dataset)
    assert answer.status_code == 200
    body = answer.json
    metrics, confusion = body.pop("metrics"), body.pop("confusion")
    assert body == {"model": model, "dataset": dataset, "rows": 150}
    assert confusion["classes"] == ["setosa", "versicolor", "virginica"]
    counts = np.array(confusion["counts"])
    assert counts.sum(axis=1).tolist() == [50, 50, 50]
    assert counts.trace() == pytest.approx(150 * metrics["accuracy"])
    assert set(metrics) == {"accuracy", "balanced_accuracy", "macro_f1", "log_loss", "auc"}
    assert 0 <= metrics["accuracy"] <= 1


def test_a_regression_is_measured_in_the_units_of_its_target(library, price_model, goods):
    measured = evaluate(library, price_model, goods).json
    metrics = measured["metrics"]
    assert measured["confusion"] is None
    assert set(metrics) == {"mae", "rmse", "r2", "mape"}
    assert metrics["r2"] > 0.8
    assert 0 < metrics["mae"] <= metrics["rmse"] < 100


def test_columns_that_a_model_does_not_know_do_not_disturb_it(library, iris_model):
    names = "id,petal_width,petal_length,sepal_width,sepal_length,species"
    lines = [names, "7,0.2,1.4,3.5,5.1,setosa", "8,2.5,6.0,3.3,6.3,virginica"]
    answer = evaluate(library, iris_model, library.dataset(csv(*lines)))
    assert answer.json["rows"] == 2
    assert answer.json["metrics"]["accuracy"] == 1


COLUMNS = "sepal_length,sepal_width,petal_length,petal_width,species"
ABSENT_COLUMN = "expected a column of the table, got none"
CLASS = "expected one of the 3 classes of the model"

UNFIT = [
    ([COLUMNS[:-8], "5.1,3.5,1.4,0.2"], f"column 'species': {ABSENT_COLUMN}"),
    ([COLUMNS.replace("l_l", "l-l"), "5.1,3.5,1.4,0.2,setosa"], "did you mean 'sepal-length'?"),
    ([COLUMNS, "5.1,3.5,1.4,0.2,rose"], f"row 0, column 'species': {CLASS}, got 'rose'"),
    ([COLUMNS, "5.1,3.5,1.4,0.2,1"], f"row 0, column 'species': {CLASS}, got 1"),
    ([COLUMNS, "5.1,3.5,1.4,0.2,"], "column 'species'"),
    (
        [COLUMNS, "5.1,3.5,inf,0.2,setosa"],
        "column 'petal_length': expected finite numbers, got inf",
    ),
    ([COLUMNS, "5.1,3.5,x,0.2,setosa"], "expected the type number, got the type category"),
]


@pytest.mark.parametrize(("lines", "reason"), UNFIT)
def test_a_dataset_that_does_not_fit_the_model_is_refused(library, iris_model, lines, reason):
    answer = evaluate(library, iris_model, library.dataset(csv(*lines)))
    assert reason in refusal(answer, "/dataset")
    assert "np." not in answer.text


def test_a_model_is_measured_on_no_more_than_memory_holds(library, iris_model, monkeypatch):
    dataset = library.dataset()
    kept = library.get(f"/v1/datasets/{dataset}").json["stored_bytes"]
    monkeypatch.setattr(models, "MEASURED_BYTES", kept - 1)
    assert f"has {kept:,} bytes" in refusal(evaluate(library, iris_model, dataset), "/dataset")
    monkeypatch.setattr(models, "MEASURED_BYTES", kept)
    assert evaluate(library, iris_model, dataset).status_code == 200


@pytest.mark.parametrize(
    ("body", "path"),
    [({}, "/dataset"), ({"dataset": 5}, "/dataset"), ({"dataset": "x", "rows": 1}, "/rows")],
)
def test_an_evaluation_takes_a_dataset_and_nothing_else(library, iris_model, body, path):
    refusal(library.post(f"/v1/models/{iris_model}/evaluate", json=body), path)


def test_a_dataset_to_measure_on_has_to_be_ones_own(library, neighbour, iris_model):
    for dataset in (neighbour.dataset(), f"ds_{ABSENT}"):
        refused = problem(evaluate(library, iris_model, dataset), 404)
        assert refused["detail"] == f"there is no dataset '{dataset}'"


def weights(caller, model, query="", **headers):
    return caller.get(f"/v1/models/{model}/weights{query}", headers=headers)


@each_database
def test_the_weights_are_a_safetensors_file_and_the_whole_model(ada):
    model = ada.model(ada.dataset())
    answer = weights(ada, model)
    assert answer.status_code == 200
    assert answer.mimetype == "application/octet-stream"
    named = f'attachment; filename="{model}.safetensors"'
    assert answer.headers["Content-Disposition"] == named
    assert answer.content_length == ada.get(f"/v1/models/{model}").json["bytes"]
    tensors = load(answer.data)
    assert tensors["layers.0.weight"].shape == (8, 4)
    assert {"features.center", "features.scale"} <= set(tensors)
    named = [name for name in tensors if name.startswith("layers.")]
    assert sum(tensors[name].size for name in named) == 4 * 8 + 8 + 8 * 3 + 3


def test_the_weights_as_npz_are_the_same(library, iris_model):
    answer = weights(library, iris_model, "?format=npz")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{iris_model}.npz"'
    tensors = load(weights(library, iris_model).data)
    with np.load(io.BytesIO(answer.data), allow_pickle=False) as arrays:
        assert set(arrays.files) == set(tensors)
        for name in arrays.files:
            assert np.array_equal(arrays[name], tensors[name])


@pytest.mark.parametrize("form", ["ONNX", "pickle", "", "SAFETENSORS", "../x", "pt"])
def test_weights_in_a_format_that_is_not_known_are_refused(library, iris_model, form):
    reason = refusal(weights(library, iris_model, f"?format={form}"), "/format")
    assert reason.startswith(f"unknown '{form}', expected one of safetensors, npz, onnx")


def test_the_weights_as_onnx_predict_from_raw_columns(library, iris_model):
    answer = weights(library, iris_model, "?format=onnx")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{iris_model}.onnx"'
    session = InferenceSession(answer.data, providers=["CPUExecutionProvider"])
    names = VIRGINICA.keys()
    columns = {name: np.array([[SETOSA[name]], [VIRGINICA[name]]]) for name in names}
    labels, probabilities = session.run(["label", "probabilities"], columns)
    expected = predictions(library.predict(iris_model, [SETOSA, VIRGINICA]))
    assert labels.tolist() == [row["label"] for row in expected]
    of_each = [list(row["probabilities"].values()) for row in expected]
    np.testing.assert_allclose(probabilities, of_each, atol=1e-5)


def test_a_model_that_onnx_cannot_hold_is_refused_with_what_can(library, iris_model, monkeypatch):
    monkeypatch.setattr(layers, "LAYERS", {})
    reason = refusal(weights(library, iris_model, "?format=onnx"), "/format")
    assert reason.startswith("this model cannot be written as ONNX because there is no operator")
    assert reason.endswith("; safetensors and npz can hold it")


@pytest.mark.parametrize("form", ["safetensors", "npz", "onnx"])
def test_weights_can_be_fetched_in_parts(library, iris_model, form):
    query = f"?format={form}"
    whole = weights(library, iris_model, query)
    assert whole.headers["Accept-Ranges"] == "bytes"
    size = len(whole.data)
    for asked, start, stop in (
        ("0-0", 0, 1),
        ("10-99", 10, 100),
        (f"{size - 5}-", size - 5, size),
        ("-5", size - 5, size),
        (f"0-{size + 1000}", 0, size),
    ):
        part = weights(library, iris_model, query, Range=f"bytes={asked}")
        assert part.status_code == 206
        assert part.data == whole.data[start:stop]
        assert part.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{size}"
        assert part.headers["ETag"] == whole.headers["ETag"]


@pytest.mark.parametrize(
    "asked",
    ["bytes=999999999-", "bytes=5-1", "bytes=a-b", "bytes=", "lines=1-2", "x", "bytes=0-1,4-5"],
)
def test_a_range_that_cannot_be_served_is_refused_with_the_size(library, iris_model, asked):
    size = len(weights(library, iris_model).data)
    answer = weights(library, iris_model, Range=asked)
    assert f"within the {size:,} bytes" in problem(answer, 416)["detail"]
    assert answer.headers["Content-Range"] == f"bytes */{size}"


def test_a_download_is_gone_on_with_only_while_the_file_is_the_same(library, iris_model):
    whole = weights(library, iris_model)
    tag = whole.headers["ETag"]
    part = weights(library, iris_model, **{"Range": "bytes=0-9", "If-Range": tag})
    assert (part.status_code, part.data) == (206, whole.data[:10])
    other = weights(library, iris_model, **{"Range": "bytes=0-9", "If-Range": '"other"'})
    assert (other.status_code, other.data) == (200, whole.data)
    npz = weights(library, iris_model, "?format=npz", **{"Range": "bytes=0-9", "If-Range": tag})
    assert npz.status_code == 200


@each_database
def test_a_model_that_is_deleted_is_gone_and_its_job_shows_none(ada):
    job = ada.trained(ada.dataset())
    model = job["model"]
    assert ada.predict(model, [SETOSA]).status_code == 200
    answer = ada.delete(f"/v1/models/{model}")
    assert (answer.status_code, answer.data) == (204, b"")
    for gone in (
        ada.get(f"/v1/models/{model}"),
        ada.delete(f"/v1/models/{model}"),
        ada.predict(model, [SETOSA]),
        weights(ada, model),
    ):
        assert problem(gone, 404)["detail"] == f"there is no model '{model}'"
    after = ada.get(f"/v1/jobs/{job['id']}")
    assert after.json == {**job, "model": None}
    with parts(ada.app).database.reading() as session:
        assert session.connection().exec_driver_sql("SELECT count(*) FROM artifacts").scalar() == 0


@pytest.mark.parametrize("whose", ["absent", "another's", "another kind"])
def test_a_model_that_is_not_ones_own_is_not_there(library, neighbour, iris, iris_model, whose):
    library.predict(iris_model, [SETOSA])
    mine = neighbour.dataset()
    asked = {"absent": f"mdl_{ABSENT}", "another's": iris_model, "another kind": iris}[whose]
    for answer in (
        neighbour.get(f"/v1/models/{asked}"),
        neighbour.delete(f"/v1/models/{asked}"),
        neighbour.predict(asked, [SETOSA]),
        evaluate(neighbour, asked, mine),
        weights(neighbour, asked),
    ):
        assert problem(answer, 404)["detail"] == f"there is no model '{asked}'"
    assert iris_model not in neighbour.get("/v1/models?limit=200").text
    assert library.predict(iris_model, [SETOSA]).status_code == 200


def test_a_model_is_served_also_where_nothing_is_kept_in_memory(make_app, ada):
    caller = Caller(make_app(predictor_cache_bytes=0), ada.key)
    model = caller.model(caller.dataset())
    first, second = (predictions(caller.predict(model, [SETOSA])) for _ in range(2))
    assert first == second


def test_an_answer_holds_no_number_that_json_cannot(library, price_model):
    far = {"size": 1.6e308, "count": -(10**300), "fresh": True, "colour": "red"}
    answer = library.predict(price_model, [far])
    [found] = json.loads(answer.data, parse_constant=pytest.fail)["predictions"]
    assert isinstance(found["value"], float)
