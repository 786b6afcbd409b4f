"""Quantiles through the public door: intervals in every form that a prediction comes in."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
from onnxruntime import InferenceSession

from tests.app.api.callers import csv, refusal, run

LEVELS = [0.1, 0.5, 0.9]
LOSS = {"type": "quantile", "quantiles": LEVELS}
RUN = {
    "network": {"layers": [{"type": "dense", "units": 8, "activation": "tanh"}]},
    "optimizer": {"type": "adam", "learning_rate": 0.02},
    "training": {"epochs": 60},
}
ROWS = [{"x": -0.9}, {"x": 0.9}]


def waits(rows=600, seed=3):
    """Times that scatter more the larger `x` is, and twice as long ones."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, rows)
    wait = 50 + 10 * (1.2 + x) * rng.uniform(-1, 1, rows)
    lines = (f"{a:.4f},{b:.4f},{2 * b:.4f}" for a, b in zip(x, wait, strict=True))
    return csv("x,wait,double", *lines)


def bounds(x):
    """The quantiles of a wait."""
    return [50 + 10 * (1.2 + x) * share for share in (-0.8, 0.0, 0.8)]


@pytest.fixture(scope="module")
def data(library):
    return library.dataset(waits())


@pytest.fixture(scope="module")
def job(library, data):
    """A job that learnt an interval."""
    found = library.trained(data, "wait", features=["x"], loss=LOSS, **RUN)
    assert found["status"] == "succeeded", found
    return found


@pytest.fixture(scope="module")
def pair(library, data):
    """A model that learnt one for each of two targets."""
    return library.model(data, ["wait", "double"], features=["x"], loss=LOSS, **RUN)


def predicted(library, model, rows=ROWS):
    answer = library.predict(model, rows)
    assert answer.status_code == 200, answer.text
    return answer.json["predictions"]


def written(library, model, rows, kind="text/csv"):
    """The answer as a table, whole."""
    with library.predict(model, rows, headers={"Accept": kind}) as answer:
        assert answer.status_code == 200, answer.text
        return answer.data


def test_the_interval_stands_beside_the_value_in_the_targets_unit(library, job):
    assert job["spec"]["loss"] == LOSS
    for row, found in zip(ROWS, predicted(library, job["model"]), strict=True):
        assert list(found["quantiles"]) == ["0.1", "0.5", "0.9"]
        assert found["value"] == found["quantiles"]["0.5"]
        assert list(found["quantiles"].values()) == pytest.approx(bounds(row["x"]), abs=3)


def test_a_job_tells_how_often_the_interval_holds_the_truth(library, job):
    assert job["metrics"]["coverage"] == pytest.approx(0.8, abs=0.1)
    assert 0 < job["metrics"]["pinball_loss"] < job["metrics"]["mae"]
    answer = library.post(
        f"/v1/models/{job['model']}/evaluate", json={"dataset": library.dataset(waits(seed=4))}
    )
    assert answer.json["metrics"]["coverage"] == pytest.approx(0.8, abs=0.1)


def test_each_of_several_targets_has_its_interval(library, pair):
    found = predicted(library, pair)[1]
    for name, scale in (("wait", 1), ("double", 2)):
        three = [found["quantiles"][str(level)][name] for level in LEVELS]
        assert three == sorted(three)
        assert three[1] == found["values"][name]
        assert three == pytest.approx([scale * bound for bound in bounds(0.9)], abs=4 * scale)


def test_tables_have_a_column_for_each_quantile(library, pair):
    found = predicted(library, pair)
    expected = {name: [row["values"][name] for row in found] for name in ("wait", "double")}
    for name in ("wait", "double"):
        for level in LEVELS:
            told = [row["quantiles"][str(level)][name] for row in found]
            expected[f"{name}_quantile_{level}"] = told
    head, *lines = written(library, pair, ROWS).decode().splitlines()
    assert head.replace('"', "").split(",") == list(expected)
    numbers = np.array([[float(cell) for cell in line.split(",")] for line in lines])
    np.testing.assert_allclose(numbers.T, list(expected.values()))
    stream = written(library, pair, ROWS, "application/vnd.apache.arrow.stream")
    assert pa.ipc.open_stream(io.BytesIO(stream)).read_all().to_pydict() == expected


def test_tensors_have_an_output_for_each_quantile(library, job):
    path = f"/v2/models/{job['model']}"
    names = ["wait", *(f"wait_quantile_{level}" for level in LEVELS)]
    assert [output["name"] for output in library.get(path).json["outputs"]] == names
    tensor = {"name": "input", "datatype": "FP32", "shape": [2, 1], "data": [-0.9, 0.9]}
    answer = library.post(f"{path}/infer", json={"inputs": [tensor]})
    outputs = {output["name"]: output["data"] for output in answer.json["outputs"]}
    assert list(outputs) == names
    rows = predicted(library, job["model"])
    assert outputs["wait_quantile_0.9"] == [row["quantiles"]["0.9"] for row in rows]


def test_batch_predictions_have_the_same_columns(library, job):
    rows = library.dataset(csv("x", "-0.9", "0.9"))
    batch = library.post("/v1/predictions", json={"model": job["model"], "dataset": rows}).json
    run(library.app, batch["id"])
    with library.get(f"/v1/predictions/{batch['id']}/result") as answer:
        assert answer.data == written(library, job["model"], ROWS)


def test_what_moves_the_middle_is_looked_at(library, data, pair):
    levels = {"type": "quantile", "quantiles": [0.2, 0.8]}
    halfway = library.model(data, ["wait", "double"], features=["x"], loss=levels, **RUN)
    for model in (pair, halfway):
        x, step = 0.3, 0.01
        near = predicted(library, model, [{"x": x - step}, {"x": x + step}])
        slope = (near[1]["values"]["double"] - near[0]["values"]["double"]) / (2 * step)
        body = {"instances": [{"x": x}], "output": "double"}
        [found] = library.post(f"/v1/models/{model}/saliency", json=body).json["saliencies"]
        assert found["output"] == "double"
        assert found["gradients"]["x"] == pytest.approx(slope, rel=0.05, abs=0.1)
    body = {"instance": {"x": 0.0}, "target": [50.0, 100.0]}
    trace = library.post(f"/v1/models/{pair}/trace", json=body).json
    assert trace["layers"][0]["shape"] == [6]


def test_between_two_that_are_equally_near_the_value_is_halfway(library, data):
    loss = {"type": "quantile", "quantiles": [0.1, 0.2, 0.8]}
    model = library.model(data, "wait", features=["x"], loss=loss, **RUN)
    for found in predicted(library, model):
        low, high = found["quantiles"]["0.2"], found["quantiles"]["0.8"]
        assert found["value"] == pytest.approx((low + high) / 2)


def test_one_quantile_is_the_value(library, data):
    loss = {"type": "quantile", "quantile": 0.9}
    job = library.trained(data, "wait", features=["x"], loss=loss, **RUN)
    assert job["spec"]["loss"] == loss
    assert "coverage" not in job["metrics"]
    [found] = predicted(library, job["model"], ROWS[1:])
    assert found == {"value": found["value"], "quantiles": {"0.9": found["value"]}}
    assert found["value"] == pytest.approx(bounds(0.9)[2], abs=3)


@pytest.mark.parametrize("relative", [True, False])
def test_every_step_of_a_forecast_has_its_interval(library, relative):
    rng = np.random.default_rng(0)
    lines = [f"{t},{t % 4 + rng.uniform(-1, 1):.4f}" for t in range(300)]
    dataset = library.dataset(csv("t,y", *lines))
    sequence = {"order": "t", "window": 4, "horizon": 2, "relative": relative}
    job = library.trained(dataset, "y", sequence=sequence, loss=LOSS, **RUN)
    assert job["metrics"]["coverage"] == pytest.approx(0.8, abs=0.15)
    window = {"sequence": [[0.0], [1.0], [2.0], [3.0]]}
    [found] = predicted(library, job["model"], [window])
    assert found["value"] == found["quantiles"]["0.5"]
    bands = zip((0, 1), found["quantiles"]["0.1"], found["quantiles"]["0.9"], strict=True)
    for step, low, high in bands:
        assert low < step < high
        assert high - low == pytest.approx(1.6, abs=1.0)
    names = written(library, job["model"], [window]).decode().splitlines()[0]
    names = names.replace('"', "").split(",")
    assert names[:3] == ["y_1", "y_2", "y_1_quantile_0.1"]


def test_a_model_in_onnx_tells_the_same(library, job):
    file = library.get(f"/v1/models/{job['model']}/weights?format=onnx").data
    session = InferenceSession(file, providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": np.array([[-0.9], [0.9]])})
    names = [output.name for output in session.get_outputs()]
    rows = predicted(library, job["model"])
    for name, values in zip(names[1:], found[1:], strict=True):
        level = name.removeprefix("wait_quantile_")
        expected = [row["quantiles"][level] for row in rows]
        np.testing.assert_allclose(values, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("loss", "pointer", "reason"),
    [
        ({"quantiles": []}, "/loss/quantiles", "at least 1"),
        ({"quantiles": [0.0, 0.5]}, "/loss/quantiles/0", "more than 0"),
        ({"quantiles": [0.5, 1.0]}, "/loss/quantiles/1", "less than 1"),
        ({"quantiles": [0.1, 0.5, 0.5]}, "/loss/quantiles", "0.5 is there twice"),
        ({"quantiles": [0.9, 0.1]}, "/loss/quantiles", "0.1 comes after 0.9"),
        ({"quantiles": [n / 200 for n in range(1, 101)]}, "/loss/quantiles", "at most 99"),
        ({"quantiles": ["0.5"]}, "/loss/quantiles/0", "expected a number"),
        ({"quantiles": 0.5}, "/loss/quantiles", "expected an array"),
        ({"quantile": 1}, "/loss/quantile", "less than 1"),
        ({"quantile": 0.5, "quantiles": [0.5]}, "/loss/quantile", "leave one of the two out"),
    ],
    ids=str,
)
def test_quantiles_that_are_none_are_refused(library, data, loss, pointer, reason):
    body = {"dataset": data, "target": "wait", "loss": {"type": "quantile", **loss}}
    assert reason in refusal(library.post("/v1/jobs", json=body), pointer)


def test_classes_have_no_quantiles_and_two_columns_no_common_name(library, iris):
    body = {"dataset": iris, "target": "species", "loss": LOSS}
    assert "not for classification" in refusal(library.post("/v1/jobs", json=body), "/loss")
    clash = library.dataset(csv("x,y,y_quantile_0.1", *(f"{n}.5,{n}.5,{n}.5" for n in range(9))))
    body = {"dataset": clash, "target": ["y", "y_quantile_0.1"], "loss": LOSS}
    assert "will be called" in refusal(library.post("/v1/jobs", json=body), "/target")
