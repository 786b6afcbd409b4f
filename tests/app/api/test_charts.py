"""The loss curve of a job, in the form that the caller accepts."""

from __future__ import annotations

import csv
import io
from xml.etree import ElementTree

import matplotlib.image
import pytest

from tests.app.api.callers import each_database, problem, refusal

POINT = ["epoch", "step", "train_loss", "validation_loss", "learning_rate", "seconds"]
METRICS = ["accuracy", "balanced_accuracy", "macro_f1", "log_loss", "auc"]


@pytest.fixture(scope="session")
def curve(library, iris):
    """The address of a curve of five epochs."""
    return f"/v1/jobs/{library.trained(iris, training={'epochs': 5})['id']}/curve"


@pytest.fixture
def queued(ada):
    """The address of the curve of a job that has not begun."""
    return f"/v1/jobs/{ada.job(ada.dataset())}/curve"


def get(caller, path, accept):
    return caller.get(path, headers={"Accept": accept})


@each_database
def test_a_curve_has_a_point_for_every_epoch(ada):
    job = ada.trained(ada.dataset(), training={"epochs": 4})
    answer = ada.get(f"/v1/jobs/{job['id']}/curve")
    assert answer.mimetype == "application/json"
    assert set(answer.json) == {"points"}
    points = answer.json["points"]
    assert [list(point) for point in points] == [[*POINT, *METRICS]] * 4
    assert [point["epoch"] for point in points] == [1, 2, 3, 4]
    assert [point["step"] for point in points] == [4, 8, 12, 16]
    assert all(point["learning_rate"] == 0.001 for point in points)
    assert points[-1]["train_loss"] < points[0]["train_loss"]
    seconds = [point["seconds"] for point in points]
    assert seconds == sorted(seconds)


def test_without_validation_there_is_no_validation_loss(library, iris):
    job = library.trained(iris, validation={"fraction": 0})
    path = f"/v1/jobs/{job['id']}/curve"
    points = library.get(path).json["points"]
    assert [list(point) for point in points] == [POINT] * 3
    assert [point["validation_loss"] for point in points] == [None] * 3
    [first, *_] = csv.DictReader(io.StringIO(get(library, path, "text/csv").text))
    assert first["validation_loss"] == ""
    assert get(library, path, "image/png").status_code == 200


@pytest.mark.parametrize(
    ("since", "epochs"), [(0, [1, 2, 3, 4, 5]), (3, [4, 5]), (5, []), (99, [])]
)
def test_a_curve_can_be_gone_on_with(library, curve, since, epochs):
    points = library.get(f"{curve}?since={since}").json["points"]
    assert [point["epoch"] for point in points] == epochs
    rows = list(
        csv.DictReader(io.StringIO(get(library, f"{curve}?since={since}", "text/csv").text))
    )
    assert [int(row["epoch"]) for row in rows] == epochs


@pytest.mark.parametrize("since", ["-1", "1.5", "NaN", "1e3", "x", "", "9" * 30, "9" * 5000])
def test_where_to_go_on_from_is_an_epoch(library, curve, since):
    assert refusal(library.get(f"{curve}?since={since}"), "/since").startswith("expected")


def test_as_csv_it_is_the_same_numbers(library, curve):
    answer = get(library, curve, "text/csv")
    assert answer.content_type == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    points = library.get(curve).json["points"]
    assert [{name: float(value) for name, value in row.items()} for row in rows] == points


def test_as_svg_it_is_a_drawing(library, curve):
    answer = get(library, curve, "image/svg+xml")
    assert answer.mimetype == "image/svg+xml"
    root = ElementTree.fromstring(answer.data)  # noqa: S314 - our own drawing
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert b"<script" not in answer.data


def test_as_png_it_is_a_picture(library, curve):
    answer = get(library, curve, "image/png")
    assert answer.mimetype == "image/png"
    picture = matplotlib.image.imread(io.BytesIO(answer.data))
    assert picture.shape == (675, 1200, 4)
    assert picture[..., :3].min() < 0.5 < picture[..., :3].max()


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("application/json", "application/json"),
        ("text/*", "text/csv"),
        ("image/png", "image/png"),
        ("image/*", "image/svg+xml"),
        ("text/csv;q=0.5, image/png", "image/png"),
        ("text/html, application/xhtml+xml, image/png;q=0.8, */*;q=0.1", "image/png"),
        ("IMAGE/PNG", "image/png"),
    ],
)
def test_the_form_is_the_one_that_is_liked_best(library, curve, accept, form):
    answer = get(library, f"{curve}?since=99", accept)
    assert answer.mimetype == form
    assert answer.headers["Vary"] == "Accept"


@pytest.mark.parametrize("accept", ["text/html", "image/jpeg", "x", "*/*;q=0", "image/png;q=0"])
def test_another_form_is_refused_with_those_that_there_are(library, curve, accept):
    wanted = "it comes as one of application/json, text/csv, image/svg+xml, image/png"
    assert problem(get(library, curve, accept), 406)["detail"] == wanted


def test_a_curve_that_has_not_begun_is_empty_in_every_form(ada, queued):
    assert ada.get(queued).json == {"points": []}
    assert get(ada, queued, "text/csv").text.splitlines() == [",".join(POINT)]
    assert get(ada, queued, "image/svg+xml").status_code == 200
    assert get(ada, queued, "image/png").status_code == 200


def test_a_curve_of_one_point_can_be_seen(library, iris):
    job = library.trained(iris, training={"epochs": 1})
    one, none = (
        get(library, f"/v1/jobs/{job['id']}/curve?since={epoch}", "image/svg+xml").data
        for epoch in (0, 1)
    )
    assert len(one) > len(none)


def test_how_far_folds_are_apart_is_drawn(library, iris):
    job = library.trained(iris, validation={"folds": 3})
    drawn = get(library, f"/v1/jobs/{job['id']}/curve", "image/svg+xml")
    assert drawn.status_code == 200
    assert "FillBetween" in drawn.text


def test_a_loss_of_zero_can_be_drawn(library):
    constant = b"x,y\n" + b"1,5.5\n" * 60
    job = library.trained(library.dataset(constant), "y", task="regression")
    path = f"/v1/jobs/{job['id']}/curve"
    assert len(library.get(path).json["points"]) == 3
    assert get(library, path, "image/png").status_code == 200
