"""Columns as they are: what is decided, what can be said, and rows with gaps and new levels."""

from __future__ import annotations

import numpy as np
import pytest

from tests.app.api.callers import QUICK, csv, refusal

CITIES = [f"city {n}" for n in range(12)]


def raw(rows=240, seed=1):
    """A table as people have them: an id, gaps, dates, many levels, rows without a target."""
    rng = np.random.default_rng(seed)
    lines = ["passenger_id,name,age,fare,city,deck,boarded,vip,survived"]
    for row in range(rows):
        age, fare = int(rng.integers(1, 80)), rng.uniform(5, 99)
        lived = "yes" if age < 40 else "no"
        age_or_gap = "" if row % 6 == 0 else age
        deck = "" if row % 4 == 0 else "ABC"[row % 3]
        boarded = f"2024-0{1 + row % 9}-1{row % 7}T1{row % 8}:00:00"
        vip = str(row % 5 == 0).lower()
        lines.append(
            f"{1000 + row},Person {row},{age_or_gap},{fare:.2f},{CITIES[row % 12]},{deck},"
            f"{boarded},{vip},{'' if row % 30 == 7 else lived}"
        )
    return csv(*lines)


FULL = {
    "passenger_id": 7,
    "name": "Nobody",
    "age": 20,
    "fare": 10.5,
    "city": "city 1",
    "deck": "A",
    "boarded": "2024-03-04T12:00:00Z",
    "vip": False,
}
INPUTS = [name for name in FULL if name not in ("passenger_id", "name")]


@pytest.fixture(scope="module")
def people(library):
    return library.dataset(raw())


@pytest.fixture(scope="module")
def trained(library, people):
    """A job that was given a dataset and a target, and not told anything of columns."""
    return library.trained(
        people, "survived", network="auto", training={"epochs": 20, "batch_size": 8}
    )


def predicted(library, trained, *instances):
    answer = library.predict(trained["model"], list(instances))
    assert answer.status_code == 200, answer.text
    return answer.json["predictions"]


def test_a_job_says_what_was_decided_about_every_column(trained):
    columns = trained["spec"]["columns"]
    assert trained["spec"]["features"] == INPUTS
    assert columns["age"] == {"type": "number", "impute": "median", "scale": "robust"}
    assert columns["city"] == {"type": "category", "impute": "level", "encode": "embedding"}
    assert columns["deck"]["encode"] == "one_hot"
    assert columns["boarded"]["encode"] == "calendar"
    assert columns["name"]["encode"] == columns["passenger_id"]["encode"] == "drop"
    assert columns["name"]["note"].startswith("left out as an id: 240 of 240 values differ")
    assert columns["survived"] == {"note": "rows left out as they have no value here: 8"}
    assert trained["spec"]["network"]["layers"][0]["type"] == "embedding"


def test_a_spec_sent_again_trains_the_same_network(library, trained):
    again = library.post("/v1/jobs", json=trained["spec"]).json
    assert again["spec"] == trained["spec"]


def test_a_model_says_what_becomes_of_every_column(library, trained):
    body = library.get(f"/v1/models/{trained['model']}").json
    said = {one["column"]: one for one in body["preprocessing"]}
    assert list(said) == [one["name"] for one in body["inputs"]] == INPUTS
    assert (said["age"]["inputs"], said["age"]["missing_flag"]) == (2, True)
    assert 20 < said["age"]["fill"] == said["age"]["center"] < 60
    assert (said["city"]["inputs"], said["city"]["levels"]) == (1, 12)
    assert (said["deck"]["inputs"], said["deck"]["missing"]) == (4, True)
    assert said["boarded"]["inputs"] == 7
    assert said["boarded"]["fill"].startswith("2024-0")


def test_rows_are_predicted_with_gaps_and_levels_never_seen(library, trained):
    whole = predicted(library, trained, FULL)
    assert whole[0]["label"] == "yes"
    null = predicted(library, trained, dict.fromkeys(FULL), [None] * len(INPUTS), {})
    assert null[0] == null[1] == null[2]
    gaps = [{**FULL, name: None} for name in INPUTS]
    absent = [{other: v for other, v in FULL.items() if other != name} for name in INPUTS]
    assert predicted(library, trained, *gaps) == predicted(library, trained, *absent)
    levels = predicted(library, trained, FULL, {**FULL, "deck": "Z"}, {**FULL, "city": "Atlantis"})
    assert len({str(one["probabilities"]) for one in levels}) == 3


def test_a_model_is_measured_on_rows_with_gaps_and_levels_never_seen(library, trained):
    other = raw(40, seed=2).replace(b"city 3", b"Atlantis").replace(b",A,", b",Z,")
    sent = {"dataset": library.dataset(other)}
    body = library.post(f"/v1/models/{trained['model']}/evaluate", json=sent).json
    assert body["rows"] == 38
    assert body["metrics"]["accuracy"] > 0.6


def test_another_dataset_with_gaps_and_new_levels_is_validated_on(library, people):
    other = raw(40, seed=3).replace(b"city 3", b"Atlantis").replace(b",A,", b",Z,")
    job = library.trained(people, "survived", validation={"dataset": library.dataset(other)})
    assert job["status"] == "succeeded", job
    assert "validation_loss" in job["metrics"]


def test_every_choice_can_be_another(library, people):
    columns = {
        "age": {"impute": -1, "scale": "standard"},
        "fare": {"impute": "none", "scale": "none"},
        "deck": {"encode": "embedding"},
        "city": {"encode": "one_hot", "impute": "none"},
        "vip": {"type": "category"},
        "boarded": {"encode": "linear", "impute": "mean"},
        "passenger_id": {"type": "number"},
        "name": {"encode": "drop"},
    }
    job = library.trained(people, "survived", columns=columns, network="auto")
    assert job["status"] == "succeeded", job
    body = library.get(f"/v1/models/{job['model']}").json
    said = {one["column"]: one for one in body["preprocessing"]}
    for name, choice in columns.items():
        for field, wanted in choice.items():
            assert name == "name" or said[name][field] == wanted
    assert (said["age"]["fill"], said["boarded"]["inputs"]) == (-1, 1)
    assert said["fare"]["scale"] == "none"
    needed = {one["name"] for one in body["inputs"] if one["required"]}
    assert needed == {"fare", "city"}
    answer = library.predict(job["model"], [FULL, {**FULL, "fare": None}])
    assert refusal(answer, "/instances/1/fare") == "expected a number, got null"
    absent = {name: value for name, value in FULL.items() if name != "city"}
    answer = library.predict(job["model"], [absent])
    assert refusal(answer, "/instances/0/city") == "expected a value, got nothing"


@pytest.mark.parametrize(
    ("columns", "path", "reason"),
    [
        (
            {"age": {"scale": "log"}},
            "/columns/age/scale",
            "unknown 'log', expected one of robust",
        ),
        ({"age": {"impute": "zero"}}, "/columns/age/impute", "unknown 'zero', expected one of"),
        ({"age": {"colour": "red"}}, "/columns/age/colour", "no such field"),
        ({"age": {"encode": "one_hot"}}, "/columns/age/encode", "one_hot is not for a number"),
        ({"age": {"impute": "none"}}, "/columns/age/impute", "'age' has 40 missing, the first in"),
        ({"aeg": {"impute": 0}}, "/columns/aeg", "no column 'aeg'; did you mean 'age'?"),
        ({"survived": {"type": "category"}}, "/columns/survived", "'survived' is the target"),
    ],
)
def test_what_cannot_be_is_pointed_to(library, people, columns, path, reason):
    asked = {"dataset": people, "target": "survived", "columns": columns, **QUICK}
    assert reason in refusal(library.post("/v1/jobs", json=asked), path)
