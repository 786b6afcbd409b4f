"""Training through the public door: what a spec asks for is what the model has learnt."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.app.api.callers import csv, refusal

DENSE = {"layers": [{"type": "dense", "units": 16}]}
ADAM = {"type": "adam", "learning_rate": 0.01}


def evaluated(caller, model, data):
    """Measure a model on a table."""
    answer = caller.post(f"/v1/models/{model}/evaluate", json={"dataset": caller.dataset(data)})
    assert answer.status_code == 200, answer.text
    return answer.json["metrics"]


def predicted(caller, model, instances):
    answer = caller.predict(model, instances)
    assert answer.status_code == 200, answer.text
    return answer.json["predictions"]


# Embeddings.

CITIES = ["Aachen", "Bonn", "Celle", "Dessau", "Emden", "Fulda"]
GOODS = ["salt", "tea", "wool"]


def price_class(city, good):
    """Neither the city nor the good alone says it."""
    return ("low", "middle", "high")[(2 * CITIES.index(city) + GOODS.index(good)) % 3]


def trade(rows, seed, cities=CITIES):
    rng = np.random.default_rng(seed)
    lines = ["city,weight,good,price"]
    for _ in range(rows):
        city, good = rng.choice(cities), rng.choice(GOODS)
        lines.append(f"{city},{rng.uniform(1, 9):.2f},{good},{price_class(city, good)}")
    return csv(*lines)


def test_an_embedding_learns_what_categories_mean_together(library):
    layers = [{"type": "embedding", "dimensions": 4}, {"type": "dense", "units": 32}]
    job = library.trained(
        library.dataset(trade(400, seed=1)),
        "price",
        network={"layers": layers},
        optimizer=ADAM,
        training={"epochs": 40},
    )
    assert job["status"] == "succeeded", job
    assert job["spec"]["network"]["layers"][0] == layers[0]
    described = library.get(f"/v1/models/{job['model']}").json
    assert described["inputs"][0]["levels"] == CITIES
    vectors = 4 * (1 + len(CITIES) + 1 + len(GOODS))  # one each for what is not known
    assert described["parameters"] == vectors + (4 + 4 + 1 + 1) * 32 + (32 + 1) * 3
    for cities in (CITIES, CITIES[2:]):  # a level is the same by name, whatever its place
        others = trade(200, seed=2, cities=cities)
        assert evaluated(library, job["model"], others)["accuracy"] > 0.98
    pairs = list(itertools.product(CITIES, GOODS))
    rows = [{"city": city, "good": good, "weight": 5.0} for city, good in pairs]
    labels = [found["label"] for found in predicted(library, job["model"], rows)]
    assert labels == [price_class(city, good) for city, good in pairs]


TIDES = ["ebb", "flow", "slack"]


def ports(rows, seed):
    levels = np.random.default_rng(seed).integers(0, 12, rows)
    return csv("port,tide", *(f"port {level:02},{TIDES[level % 3]}" for level in levels))


def test_the_vectors_of_an_embedding_are_learnt(library):
    """Twelve points of a plane, drawn at random, cannot be told apart by three straight lines."""
    job = library.trained(
        library.dataset(ports(400, seed=1)),
        "tide",
        network={"layers": [{"type": "embedding", "dimensions": 2}]},
        optimizer={"type": "adam", "learning_rate": 0.05},
        training={"epochs": 40},
    )
    assert evaluated(library, job["model"], ports(200, seed=2))["accuracy"] == 1
    rows = [{"port": f"port {level:02}"} for level in range(12)]
    labels = [found["label"] for found in predicted(library, job["model"], rows)]
    assert labels == TIDES * 4


# How much a class and a row count.

FRAUD_SHARE = 0.05


def payments(rows, seed):
    """Payments of which few are fraud, and these lie among the others."""
    rng = np.random.default_rng(seed)
    lines = ["amount,hour,kind"]
    for _ in range(rows):
        is_fraud = rng.random() < FRAUD_SHARE
        amount, hour = rng.normal([1.5, 1.0] if is_fraud else [0.0, 0.0])
        lines.append(f"{amount:.4f},{hour:.4f},{'fraud' if is_fraud else 'usual'}")
    return csv(*lines)


@pytest.fixture(scope="module")
def fraud_recall(library):
    """Train with class weights; return the share of fraud that is found in other payments."""
    dataset, others = library.dataset(payments(1000, seed=1)), payments(2000, seed=2)

    def measure(class_weights):
        model = library.model(
            dataset,
            "kind",
            network=DENSE,
            optimizer=ADAM,
            training={"epochs": 20},
            class_weights=class_weights,
        )
        found = evaluated(library, model, others)
        assert library.get(f"/v1/models/{model}").json["classes"] == ["fraud", "usual"]
        # The second class is the positive one, so that fraud is the negative.
        return found["true_negatives"] / (found["true_negatives"] + found["false_positives"])

    return measure


@pytest.mark.parametrize("class_weights", ["balanced", {"fraud": 20.0}, {"usual": 0.05}], ids=str)
def test_class_weights_find_more_of_a_rare_class(fraud_recall, class_weights):
    assert fraud_recall(None) < 0.4
    assert fraud_recall(class_weights) > 0.7


def test_class_weights_that_favour_the_frequent_class_lose_the_rare_one(fraud_recall):
    assert fraud_recall({"usual": 20.0}) < 0.05


def sides(rows, seed, liars=0.0):
    """Rows whose side is the sign of ``x``, but for a share that says the opposite and counts 0."""
    rng = np.random.default_rng(seed)
    lines = ["x,trust,side"]
    for x in rng.uniform(-1, 1, rows):
        lies = rng.random() < liars
        lines.append(f"{x:.4f},{0 if lies else 1.5},{'right' if (x > 0) != lies else 'left'}")
    return csv(*lines)


def learn_sides(library, validation=None, **spec):
    dataset = library.dataset(sides(600, seed=1, liars=0.7))
    return library.trained(
        dataset,
        "side",
        network=DENSE,
        optimizer=ADAM,
        training={"epochs": 30},
        validation=validation or {"fraction": 0.0},
        **spec,
    )


@pytest.mark.parametrize("validation", [{"fraction": 0.0}, {"fraction": 0.2}, {"folds": 3}])
def test_rows_of_weight_0_teach_nothing_and_choose_nothing(library, validation):
    job = learn_sides(library, validation, sample_weight="trust")
    assert job["metrics"]["best_epoch"] > 20
    [described] = library.get(f"/v1/models/{job['model']}").json["inputs"]
    assert described["name"] == "x"
    assert evaluated(library, job["model"], sides(300, seed=2))["accuracy"] > 0.95
    rows = [{"x": -0.5}, {"x": 0.5}]
    assert [p["label"] for p in predicted(library, job["model"], rows)] == ["left", "right"]


def test_a_row_that_counts_more_is_measured_more(library):
    """Half of the validation rows are wrong, and count little: their loss does as well."""
    losses = []
    for trust in ("1", "0.01"):
        rows = sides(200, seed=1).decode().replace(",1.5,", ",1,").encode()
        wrong = sides(200, seed=3, liars=1.0).decode().replace(",0,", f",{trust},").splitlines()[1:]
        job = library.trained(
            library.dataset(rows),
            "side",
            network=DENSE,
            optimizer=ADAM,
            training={"epochs": 20},
            sample_weight="trust",
            validation={"dataset": library.dataset(rows + csv(*wrong))},
        )
        assert job["status"] == "succeeded", job
        losses.append(job["metrics"]["validation_loss"])
    assert losses[1] < losses[0] / 3


@pytest.mark.parametrize(
    ("spec", "pointer", "reason"),
    [
        (
            {"sample_weight": "trust", "features": ["x", "trust"]},
            "/sample_weight",
            "'trust' is a feature as well; it can be but one",
        ),
        (
            {"sample_weight": "trust", "target": "trust"},
            "/sample_weight",
            "'trust' is a target as well; it can be but one",
        ),
        (
            {"class_weights": {"left": 0.0, "right": 0.0}},
            "/class_weights",
            "every class has the weight 0; leave one out",
        ),
    ],
)
def test_weights_that_leave_nothing_to_learn_are_refused(library, spec, pointer, reason):
    body = {"dataset": library.dataset(sides(60, seed=1)), "target": "side", **spec}
    assert refusal(library.post("/v1/jobs", json=body), pointer) == reason


def test_the_same_rows_teach_the_opposite_where_all_count_alike(library):
    job = learn_sides(library, features=["x"])
    assert evaluated(library, job["model"], sides(300, seed=2))["accuracy"] < 0.1


# Losses.


def test_label_smoothing_keeps_predictions_from_certainty(library):
    """The best answer to a target of 0.9 + 0.1 / 2 is that probability itself."""
    dataset, rows = library.dataset(sides(400, seed=1)), [{"x": -0.8}, {"x": 0.8}]

    def sureness(loss, smoothing):
        job = library.trained(
            dataset,
            "side",
            features=["x"],
            network=DENSE,
            optimizer=ADAM,
            training={"epochs": 60},
            loss={"type": loss, "label_smoothing": smoothing},
        )
        assert job["spec"]["loss"] == {"type": loss, "label_smoothing": smoothing}
        found = predicted(library, job["model"], rows)
        assert [p["label"] for p in found] == ["left", "right"]
        return [max(p["probabilities"].values()) for p in found]

    for loss in ("cross_entropy", "binary_cross_entropy"):
        assert min(sureness(loss, 0.0)) > 0.99
        assert sureness(loss, 0.1) == pytest.approx([0.95, 0.95], abs=0.02)


NUMBER_LOSSES = {
    "squared_error": {},
    "absolute_error": {},
    "huber": {"delta": 1.0},
    "log_cosh": {},
    "quantile": {"quantile": 0.5},
    "poisson": {},
}
"""Every loss for numbers, with what it is unless more is said."""


@pytest.fixture(scope="module")
def visits(library):
    """Counts, which every loss for numbers can learn, and how many to expect."""
    rng = np.random.default_rng(4)
    lines = ["x,visits"]
    lines += [f"{x:.4f},{rng.poisson(20 + 15 * x)}" for x in rng.uniform(-1, 1, 500)]
    return library.dataset(csv(*lines))


def expected_visits(library, visits, loss):
    """Train by a loss; return how it was understood and what is predicted at both ends."""
    job = library.trained(
        visits,
        "visits",
        task="regression",
        network=DENSE,
        optimizer=ADAM,
        training={"epochs": 40},
        loss=loss,
    )
    assert job["status"] == "succeeded", job
    found = predicted(library, job["model"], [{"x": -0.8}, {"x": 0.8}])
    return job["spec"]["loss"], [p["value"] for p in found]


@pytest.mark.parametrize("name", NUMBER_LOSSES)
def test_every_loss_for_numbers_is_asked_for_by_name_or_as_an_object(library, visits, name):
    whole = {"type": name, **NUMBER_LOSSES[name]}
    by_name, values = expected_visits(library, visits, name)
    assert by_name == whole
    assert values == pytest.approx([8, 32], abs=3)
    assert expected_visits(library, visits, whole) == (whole, values)


def test_numbers_are_learnt_by_squared_error_unless_asked_otherwise(library, visits):
    asked = expected_visits(library, visits, "squared_error")
    assert expected_visits(library, visits, None) == asked


MEAN, MEDIAN = 10.0, 10 * np.log(2)
"""Of waiting times that are exponentially distributed."""


@pytest.fixture(scope="module")
def waits(library):
    """Waiting times that nothing tells beforehand."""
    x = np.random.default_rng(5).uniform(-1, 1, 2000)
    wait = -MEAN * np.log(1 - (np.arange(2000) + 0.5) / 2000)
    pairs = zip(x, wait, strict=True)
    return library.dataset(csv("x,wait", *(f"{x:.4f},{wait:.4f}" for x, wait in pairs)))


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ({"type": "squared_error"}, MEAN),
        ({"type": "poisson"}, MEAN),
        ({"type": "huber", "delta": 1000.0}, MEAN),
        ({"type": "huber", "delta": 0.01}, MEDIAN),
        ({"type": "absolute_error"}, MEDIAN),
        ({"type": "quantile", "quantile": 0.5}, MEDIAN),
        ({"type": "quantile", "quantile": 0.9}, MEAN * np.log(10)),
        ({"type": "log_cosh"}, 8.5),
    ],
    ids=str,
)
def test_a_loss_decides_what_of_a_distribution_is_predicted(library, waits, loss, expected):
    """The mean, the median, another quantile, or, by log-cosh, what lies between."""
    job = library.trained(
        waits,
        "wait",
        network={"layers": []},
        optimizer={"type": "adam", "learning_rate": 0.03},
        schedule={"type": "cosine"},
        training={"epochs": 20, "batch_size": 50},
        validation={"fraction": 0.0},
        loss=loss,
    )
    assert job["spec"]["loss"] == loss
    [found] = predicted(library, job["model"], [{"x": 0.0}])
    assert found["value"] == pytest.approx(expected, rel=0.03)
