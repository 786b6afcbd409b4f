"""Layers that settle, through the public door: trained, told, asked and looked into as others."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load

from tests.app.api.callers import refusal

FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
ADAM = {"type": "adam", "learning_rate": 0.02}
FIGURES = {"settled", "validation_settled", "forward_iterations", "backward_iterations"}


def settling(**options):
    return {"layers": [{"type": "equilibrium", "units": 6, **options}]}


@pytest.fixture(scope="module")
def job(library, iris):
    found = library.trained(
        iris, network=settling(), optimizer=ADAM, training={"epochs": 15, "batch_size": 16}
    )
    assert found["status"] == "succeeded", found
    return found


def test_it_learns_and_its_curve_tells_how_it_settled(library, job):
    assert job["metrics"]["accuracy"] > 0.85
    points = library.get(f"/v1/jobs/{job['id']}/curve").json["points"]
    assert len(points) == 15
    for point in points:
        assert point["settled"] == point["validation_settled"] == 1
        assert 2 < point["forward_iterations"] < 60
        assert 2 < point["backward_iterations"] < 60
    assert job["metrics"].keys() >= FIGURES
    csv = library.get(f"/v1/jobs/{job['id']}/curve", headers={"Accept": "text/csv"}).text
    assert "backward_iterations" in csv.splitlines()[0]


def test_its_model_predicts_and_is_what_was_trained(library, job):
    [found] = library.predict(job["model"], [FLOWER]).json["predictions"]
    assert found["label"] == "setosa"
    weights = load(library.get(f"/v1/models/{job['model']}/weights").data)
    shapes = {name: tensor.shape for name, tensor in weights.items() if name.startswith("layers.0")}
    assert shapes == {
        "layers.0.weight": (6, 4),
        "layers.0.recurrent": (6, 6),
        "layers.0.bias": (6,),
    }
    assert (np.diag(weights["layers.0.recurrent"]) == 0).all()


def test_a_trace_holds_what_the_adjoint_makes_of_the_delta(library, job):
    sent = {"instance": FLOWER, "target": "setosa"}
    layers = library.post(f"/v1/models/{job['model']}/trace", json=sent).json["layers"]
    layer = layers[-1]
    assert (layer["name"], layer["type"]) == ("layers.0", "equilibrium")
    weights = load(library.get(f"/v1/models/{job['model']}/weights").data)
    v, e, w = np.array(layer["output"]), np.array(layer["delta"]), weights["layers.0.recurrent"]
    d = v * (1 - v)
    y = d * np.linalg.solve(np.eye(6) - w.T * d, e)
    np.testing.assert_allclose(layer["gradients"]["bias"], y, atol=1e-5)
    np.testing.assert_allclose(
        layer["gradients"]["recurrent"], np.outer(y, v) * (1 - np.eye(6)), atol=1e-5
    )


def test_its_slopes_and_its_units_can_be_looked_at(library, job):
    path = f"/v1/models/{job['model']}"
    slopes = library.post(f"{path}/saliency", json={"instances": [FLOWER]})
    assert slopes.status_code == 200, slopes.text
    features = library.get(f"{path}/features").json
    assert features["layer"] == "layers.0"
    assert np.shape(features["weights"]) == (6, 4)


def test_folds_tell_the_mean_of_how_they_settled(library, iris):
    found = library.trained(
        iris, network=settling(), training={"epochs": 2}, validation={"folds": 3}
    )
    assert found["status"] == "succeeded", found
    assert found["metrics"]["settled"] == 1
    assert found["metrics"]["settled_deviation"] == 0


def test_a_job_that_does_not_settle_fails_with_the_share_and_advice(library, iris):
    found = library.trained(iris, network=settling(max_iterations=1), training={"epochs": 5})
    assert (found["status"], found["model"]) == ("failed", None)
    assert found["error"]["code"] == "unsettled"
    assert found["error"]["detail"].startswith("0.0% of the examples settled")
    assert "more `max_iterations`" in found["error"]["detail"]


@pytest.mark.parametrize(
    ("options", "place", "reason"),
    [
        ({"tolerance": 0}, "tolerance", "expected more than 0, got 0"),
        ({"tolerance": 1e-9}, "tolerance", "float32 may round by more than 1e-09; 1e-06 would do"),
        ({"tolerance": 1}, "tolerance", "expected at most 0.1, got 1"),
        ({"damping": 1}, "damping", "expected less than 1, got 1"),
        ({"damping": -0.1}, "damping", "expected at least 0, got -0.1"),
        ({"damping": "adaptiv"}, "damping", "did you mean 'adaptive'?"),
        ({"max_iterations": 0}, "max_iterations", "expected at least 1, got 0"),
        ({"neumann_terms": -1}, "neumann_terms", "expected at least 0, got -1"),
        ({"activation": "relu"}, "activation", "expected one of sigmoid, tanh"),
        ({"units": 0}, "units", "expected at least 1, got 0"),
    ],
    ids=str,
)
def test_what_cannot_settle_is_refused_where_it_stands(library, iris, options, place, reason):
    body = {"dataset": iris, "target": "species", "network": settling(**options)}
    answer = library.post("/v1/jobs", json=body)
    assert reason in refusal(answer, f"/network/layers/0/{place}")


def test_it_is_no_part_of_a_block(library, iris):
    network = {"layers": [{"type": "residual", **settling()}]}
    body = {"dataset": iris, "target": "species", "network": network}
    found = refusal(library.post("/v1/jobs", json=body), "/network/layers/0/layers/0/type")
    assert found.startswith("unknown 'equilibrium'")
