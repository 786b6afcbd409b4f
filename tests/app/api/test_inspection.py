"""Looking inside a model: traces, saliencies and features, as numbers and as pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from safetensors.numpy import load

from tests.app.api.callers import problem

FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
PNG, SVG = b"\x89PNG\r\n", b"<?xml"


@pytest.fixture(scope="module")
def model(iris_model):
    return iris_model


@pytest.fixture(scope="module")
def images(library):
    """Images of a bright row or a bright column, as a tensor column."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 80)
    x = rng.random((80, 5, 5)).astype(np.float32)
    for image, label in zip(x, labels, strict=True):
        place = rng.integers(0, 5)
        (image if label else image.T)[place] += 2
    packed = io.BytesIO()
    np.savez(packed, image=x, turned=labels)
    return library.dataset(packed.getvalue(), "application/x-npz")


@pytest.fixture(scope="module")
def convolutional(library, images):
    layers = [
        {"type": "conv2d", "filters": 4, "kernel": 3},
        {"type": "max_pool2d", "window": 3},
        {"type": "flatten"},
    ]
    return library.model(images, "turned", task="classification", network={"layers": layers})


def trace(library, model, target="setosa", accept="application/json", **changes):
    sent = {"instance": FLOWER, "target": target, **changes}
    return library.post(f"/v1/models/{model}/trace", json=sent, headers={"Accept": accept})


def test_a_trace_goes_from_the_last_layer_to_the_first(library, model):
    answer = trace(library, model).json
    assert answer["model"] == model
    assert [layer["name"] for layer in answer["layers"]] == [
        "layers.1",
        "layers.0.activation",
        "layers.0",
    ]
    last, _, first = answer["layers"]
    assert (last["type"], last["shape"]) == ("dense", [3])
    p = np.exp(last["output"]) / np.exp(last["output"]).sum()
    assert answer["loss"] == pytest.approx(-np.log(p[0]), rel=1e-4)
    np.testing.assert_allclose(last["delta"], p - [1, 0, 0], atol=1e-6)
    assert np.shape(first["gradients"]["weight"]) == (first["shape"][0], 4)


def test_the_gradients_of_a_trace_are_deltas_times_outputs(library, model):
    last, hidden, first = trace(library, model).json["layers"]
    np.testing.assert_allclose(
        last["gradients"]["weight"], np.outer(last["delta"], hidden["output"]), atol=1e-6
    )
    np.testing.assert_allclose(last["gradients"]["bias"], last["delta"], atol=1e-6)
    weights = load(library.get(f"/v1/models/{model}/weights").data)
    handed = weights["layers.1.weight"].T @ np.array(last["delta"])
    np.testing.assert_allclose(hidden["delta"], handed, atol=1e-6)
    slope = np.greater(hidden["output"], 0)
    np.testing.assert_allclose(first["delta"], slope * hidden["delta"], atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"target": "rose"}, "/target", "one of 'setosa', 'versicolor', 'virginica'"),
        ({"target": None}, "/target", "expected"),
        ({"instance": {**FLOWER, "petal_width": "wide"}}, "/instance/petal_width", "a number"),
        ({"instance": [1, 2]}, "/instance", "4 values"),
        ({"instances": []}, "/instances", "no such field"),
    ],
)
def test_a_trace_of_nonsense_is_refused_where_it_stands(library, model, changes, path, words):
    answer = trace(library, model, **changes)
    found = problem(answer, 422)["errors"]
    assert path in [error["pointer"] for error in found]
    assert words in found[0]["detail"]


def saliency(library, model, instances, **changes):
    headers = {"Accept": changes.pop("accept", "application/json")}
    sent = {"instances": instances, **changes}
    return library.post(f"/v1/models/{model}/saliency", json=sent, headers=headers)


def test_a_saliency_is_the_slope_of_the_predicted_probability(library, model):
    found = saliency(library, model, [FLOWER]).json["saliencies"][0]

    def probability(**changes):
        sent = {"instances": [{**FLOWER, **changes}]}
        answer = library.post(f"/v1/models/{model}/predict", json=sent).json
        return answer["predictions"][0]["probabilities"][found["output"]]

    for name, value in FLOWER.items():
        h = 0.05
        slope = (probability(**{name: value + h}) - probability(**{name: value - h})) / (2 * h)
        assert found["gradients"][name] == pytest.approx(slope, rel=0.1, abs=1e-3)


def test_the_saliency_of_another_class_can_be_asked_for(library, model):
    answers = [
        saliency(library, model, [FLOWER], output=name).json["saliencies"][0]["gradients"]
        for name in ("setosa", "versicolor", "virginica")
    ]
    for name in FLOWER:
        assert sum(answer[name] for answer in answers) == pytest.approx(0, abs=1e-6)
    refused = problem(saliency(library, model, [FLOWER], output="rose"), 422)
    assert refused["errors"][0]["pointer"] == "/output"


def test_an_image_gets_a_slope_a_pixel(library, convolutional):
    image = np.random.default_rng(1).random((5, 5)).tolist()
    found = saliency(library, convolutional, [{"image": image}]).json["saliencies"][0]
    assert np.shape(found["gradients"]["image"]) == (5, 5)
    assert found["output"] in (0, 1)


def test_features_are_the_weights_of_the_first_layer(library, model, convolutional):
    flat = library.get(f"/v1/models/{model}/features").json
    weights = load(library.get(f"/v1/models/{model}/weights").data)
    np.testing.assert_allclose(flat["weights"], weights["layers.0.weight"])
    assert (flat["layer"], flat["shape"]) == ("layers.0", list(weights["layers.0.weight"].shape))
    assert library.get(f"/v1/models/{convolutional}/features").json["shape"] == [4, 1, 3, 3]


@pytest.mark.parametrize(("accept", "start"), [("image/png", PNG), ("image/svg+xml", SVG)])
def test_all_of_it_can_be_drawn(library, model, convolutional, accept, start):
    image = {"image": np.eye(5).tolist()}
    drawn = [
        trace(library, model, accept=accept),
        trace(library, convolutional, 1, accept, instance=image),
        saliency(library, model, [FLOWER], accept=accept),
        saliency(library, convolutional, [image], accept=accept),
        library.get(f"/v1/models/{model}/features", headers={"Accept": accept}),
        library.get(f"/v1/models/{convolutional}/features", headers={"Accept": accept}),
    ]
    for answer in drawn:
        assert (answer.status_code, answer.mimetype) == (200, accept)
        assert answer.data.startswith(start)


def test_another_form_is_refused_with_those_that_there_are(library, model):
    answer = library.get(f"/v1/models/{model}/features", headers={"Accept": "text/html"})
    assert "image/png" in problem(answer, 406)["detail"]


def test_somebody_elses_model_is_not_looked_into(neighbour, model):
    for answer in (
        trace(neighbour, model),
        saliency(neighbour, model, [FLOWER]),
        neighbour.get(f"/v1/models/{model}/features"),
    ):
        problem(answer, 404)
