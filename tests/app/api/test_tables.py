"""Predictions as tables: CSV and Arrow both ways answer what JSON answers, and options of both."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from app.api import tables
from tests.app.api.callers import csv, problem, refusal

FLOWERS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3], [5.9, 3.0, 4.2, 1.5]]
NAMES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
CSV = csv(",".join(NAMES), *(",".join(map(str, row)) for row in FLOWERS))
STREAM = "application/vnd.apache.arrow.stream"
FILE = "application/vnd.apache.arrow.file"


def send(caller, model, data, kind="text/csv", accept=None, query=""):
    headers = {"Accept": accept} if accept else {}
    path = f"/v1/models/{model}/predict{query}"
    return caller.post(path, data=data, content_type=kind, headers=headers)


def read(answer):
    """Read a table that was answered."""
    assert answer.status_code == 200, answer.text
    with answer:
        data = answer.data
    if answer.mimetype == "text/csv":
        return pa.csv.read_csv(io.BytesIO(data))
    is_stream = answer.mimetype == STREAM
    opened = pa.ipc.open_stream if is_stream else pa.ipc.open_file
    return opened(data).read_all()


def arrow(columns, kind):
    table, out = pa.table(columns), io.BytesIO()
    opened = pa.ipc.new_stream if kind == STREAM else pa.ipc.new_file
    with opened(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


@pytest.fixture(scope="module")
def expected(library, iris_model):
    return library.predict(iris_model, FLOWERS).json["predictions"]


@pytest.mark.parametrize("kind", ["text/csv", STREAM, FILE])
@pytest.mark.parametrize("accept", [None, "text/csv", STREAM, FILE, "application/json"])
def test_rows_of_any_form_are_answered_in_any_form(library, iris_model, expected, kind, accept):
    columns = dict(zip(NAMES, np.array(FLOWERS).T, strict=True))
    data = CSV if kind == "text/csv" else arrow(columns, kind)
    answer = send(library, iris_model, data, kind, accept)
    assert answer.mimetype == (accept or kind)
    if accept == "application/json":
        assert answer.json == {"model": iris_model, "predictions": expected}
        return
    found = read(answer).to_pydict()
    assert found.pop("label") == [row["label"] for row in expected]
    assert list(found) == [f"probability_{name}" for name in expected[0]["probabilities"]]
    shares = [list(row["probabilities"].values()) for row in expected]
    np.testing.assert_allclose(np.array(list(found.values())).T, shares, rtol=1e-6)


def test_rows_in_json_are_answered_as_a_table(library, iris_model, expected):
    headers = {"Accept": "text/csv"}
    found = read(library.predict(iris_model, FLOWERS, headers=headers))
    assert found["label"].to_pylist() == [row["label"] for row in expected]


def test_a_regression_answers_its_target(library, price_model):
    rows = csv("size,count,fresh,colour", "2.5,3,true,red", ",,,", "1.5,7,false,unheard-of")
    table = read(send(library, price_model, rows))
    instances = [
        {"size": 2.5, "count": 3, "fresh": True, "colour": "red"},
        {},
        {"size": 1.5, "count": 7, "fresh": False, "colour": "unheard-of"},
    ]
    expected = library.predict(price_model, instances).json["predictions"]
    assert table.column_names == ["price"]
    np.testing.assert_allclose(table["price"], [row["value"] for row in expected], rtol=1e-6)


def test_columns_are_taken_for_what_they_were_in_training(library):
    lines = [f"{'ab'[row % 2]}{row % 3},{row % 5},{row % 2}" for row in range(60)]
    model = library.model(library.dataset(csv("code,size,y", *lines)), "y", task="classification")
    alone = read(send(library, model, csv("code,size,more", "7,1.5,x", "a0,2,y")))
    assert alone.num_rows == 2


def test_probabilities_are_told_as_asked(library, iris_model, expected):
    def ask(**options):
        body = {"instances": FLOWERS, **options}
        return library.post(f"/v1/models/{iris_model}/predict", json=body).json["predictions"]

    assert ask(probabilities=False) == [{"label": row["label"]} for row in expected]
    for row, whole in zip(ask(top_k=2), expected, strict=True):
        best = sorted(whole["probabilities"].items(), key=lambda share: -share[1])[:2]
        assert list(row["probabilities"].items()) == best
        assert row["label"] == best[0][0]
    table = read(send(library, iris_model, CSV, query="?top_k=1"))
    assert table.column_names == ["label", "label_1", "probability_1"]
    assert table["label"] == table["label_1"]
    bare = read(send(library, iris_model, CSV, query="?probabilities=false"))
    assert bare.column_names == ["label"]


def test_a_threshold_moves_the_decision_between_two_classes(library, goods):
    model = library.model(goods, "sold", features=["size"])
    rows = [{"size": size} for size in np.linspace(1, 5, 9)]

    def labels(**options):
        body = {"instances": rows, **options}
        return [
            row["label"]
            for row in library.post(f"/v1/models/{model}/predict", json=body).json["predictions"]
        ]

    assert set(labels(threshold=0)) == {True}
    assert set(labels(threshold=1)) == {False}
    assert labels(threshold=0.5) == labels()


def test_what_cannot_be_done_is_refused(library, iris_model, price_model):
    def ask(model, rows, **options):
        return library.post(f"/v1/models/{model}/predict", json={"instances": rows, **options})

    assert "two classes" in problem(ask(iris_model, FLOWERS, threshold=0.5), 422)["detail"]
    assert "regression" in problem(ask(price_model, [{}], top_k=1), 422)["detail"]
    refusal(ask(iris_model, FLOWERS, top_k=0), "/top_k")
    refusal(ask(iris_model, FLOWERS, threshold=1.5), "/threshold")
    with_query = library.post(
        f"/v1/models/{iris_model}/predict?top_k=1", json={"instances": FLOWERS}
    )
    assert "fields of the body" in problem(with_query, 422)["detail"]
    problem(send(library, iris_model, CSV, accept="image/png"), 406)
    problem(send(library, iris_model, CSV, "text/plain"), 415)
    for data, text in (
        (csv(",".join(NAMES[:3]), "1,2,3"), "petal_width"),
        (csv(",".join(NAMES), "1,2,3,x"), "line 2"),
        (b"", "empty"),
    ):
        assert text in problem(send(library, iris_model, data), 422)["detail"]
    broken = arrow({"a": [1.0]}, FILE)[:-20]
    assert "Arrow" in problem(send(library, iris_model, broken, FILE), 422)["detail"]


def test_many_rows_are_answered_in_pieces_that_make_a_whole(library, iris_model, expected):
    answer = library.predict(iris_model, FLOWERS * 1001)
    assert answer.is_streamed
    assert answer.json == {"model": iris_model, "predictions": expected * 1001}


def test_many_rows_are_written_as_few_are(library, iris_model, monkeypatch):
    rows = [[size, 1.5, 4, 0.2] for size in range(40)]
    few = [library.predict(iris_model, [row]).json["predictions"][0] for row in rows]
    answer = library.predict(iris_model, rows)
    assert answer.json["predictions"] == few
    monkeypatch.setattr(tables, "MANY_ROWS", 41)
    assert library.predict(iris_model, rows).data == answer.data


def test_a_table_that_was_sent_leaves_nothing_behind(library, iris_model):
    scratch = library.app.extensions["chainrule"].scratch
    send(library, iris_model, CSV).close()
    problem(send(library, iris_model, b"a,b\n1,2\n"), 422)
    assert list(scratch.iterdir()) == []
