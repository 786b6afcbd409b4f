"""Sequences through the public door: forecasts and whole series, from the file to the answer."""

from __future__ import annotations

import numpy as np
import pytest

from tests.app.api.callers import csv, problem, refusal

DENSE = {"layers": [{"type": "dense", "units": 16}]}
ADAM = {"type": "adam", "learning_rate": 0.02}
RUN = {"network": DENSE, "optimizer": ADAM, "training": {"epochs": 30}}
WINDOW = {"order": "month", "window": 12, "horizon": 3}


def season(n):
    """What a month sells."""
    return 100 + n + 20 * np.sin(n * np.pi / 6)


def month(n):
    return f"{2000 + n // 12}-{n % 12 + 1:02d}"


def sales(months=100, left_out=()):
    """A series of months, of which some are not there."""
    lines = (f"{month(n)},{season(n):.3f}" for n in range(months) if n not in left_out)
    return csv("month,sold", *lines)


def shapes(series=40, low=3, high=7, seed=0):
    """Series that rise or fall."""
    rng = np.random.default_rng(seed)
    lines = ["who,step,x,way"]
    for n in range(series):
        slope = 1 if n % 2 else -1
        for step in range(int(rng.integers(low, high + 1))):
            way = "up" if slope > 0 else "down"
            lines.append(f"w{n},{step},{slope * step + rng.normal() / 10:.3f},{way}")
    return csv(*lines)


def window(first, rows=12):
    return {"sequence": [{"sold": season(n)} for n in range(first, first + rows)]}


def predicted(answer):
    assert answer.status_code == 200, answer.text
    return answer.json["predictions"]


@pytest.fixture(scope="module")
def forecast(library):
    """A job that learnt to forecast."""
    job = library.trained(library.dataset(sales(left_out=[30])), "sold", sequence=WINDOW, **RUN)
    assert job["status"] == "succeeded", job
    return job


@pytest.fixture(scope="module")
def walk(library):
    """A job that learnt to tell series apart."""
    sequence = {"order": "step", "group": "who"}
    job = library.trained(library.dataset(shapes()), "way", sequence=sequence, **RUN)
    assert job["status"] == "succeeded", job
    return job


def test_a_job_tells_what_is_decided_and_what_was_left_out(forecast):
    assert forecast["spec"]["sequence"] == {
        **WINDOW,
        "strategy": "direct",
        "group": None,
        "relative": True,
        "length": None,
        "mask": None,
    }
    assert forecast["spec"]["features"] == ["sold"]
    assert forecast["notes"][:-1] == [
        "gaps: 1 step is of another size than the others of its series: "
        "from 2002-06-01 to 2002-08-01 (rows 30 and 31)",
        "windows left out, as they reach over a gap: 14",
        "windows left out, as they predict both before and after the cut: 2",
    ]


def test_a_job_tells_what_is_forecast_without_a_network(forecast):
    """On the same windows: the last value, and that of a year before, to which each adds 12."""
    metrics = forecast["metrics"]
    assert metrics["seasonal_naive_mae"] == pytest.approx(12.0, abs=1e-3)
    assert metrics["last_value_mae"] > metrics["seasonal_naive_mae"] > metrics["mae"]
    assert forecast["notes"][-1] == (
        f"the network, of mae {metrics['mae']:.4g}, beats "
        f"last_value_mae ({metrics['last_value_mae']:.4g}), seasonal_naive_mae (12)"
    )


def test_a_baseline_that_wins_is_named(library):
    lines = (f"2020-01-{n // 24 + 1:02d} {n % 24:02d}:00,{n % 24}" for n in range(300))
    job = library.trained(
        library.dataset(csv("hour,y", *lines)), "y", sequence={"order": "hour", "window": 3}
    )
    assert job["metrics"]["seasonal_naive_mae"] == 0
    assert job["notes"][-1].endswith("seasonal_naive_mae (0)")
    assert "does not beat" in job["notes"][-1]


def test_a_logistic_regression_stands_beside_a_classifier_of_series(library, walk):
    """Where there is something to validate on, and it is less arithmetic than the training was."""
    name, sequence = "logistic_regression_accuracy", {"order": "step", "group": "who"}
    assert name not in walk["metrics"]
    dataset = library.dataset(shapes(60))
    once = {**RUN, "training": {"epochs": 1}}
    assert name not in library.trained(dataset, "way", sequence=sequence, **once)["metrics"]
    job = library.trained(dataset, "way", sequence=sequence, **RUN)
    assert job["metrics"][name] == 1.0
    assert job["notes"][-1].endswith("logistic_regression_accuracy (1)")
    model = library.get(f"/v1/models/{job['model']}").json
    assert model["metrics"] == job["metrics"]


RECURSIVE = {**WINDOW, "strategy": "recursive"}


def test_a_recursive_forecast_is_fed_back(library):
    dataset = library.dataset(sales())
    job = library.trained(dataset, "sold", sequence=RECURSIVE, **RUN)
    assert job["spec"]["sequence"]["strategy"] == "recursive"
    rows = [{"sold": season(n)} for n in range(100, 112)]
    [found] = predicted(library.predict(job["model"], [{"sequence": rows}]))
    np.testing.assert_allclose(found["value"], [season(n) for n in (112, 113, 114)], atol=8)
    rows = [*rows, {"sold": found["value"][0]}]
    [moved] = predicted(library.predict(job["model"], [{"sequence": rows}]))
    np.testing.assert_allclose(moved["value"][:2], found["value"][1:], rtol=1e-6)


def test_a_recursive_forecast_is_measured_over_its_horizon(library):
    dataset = library.dataset(sales())
    jobs = {
        strategy: library.trained(dataset, "sold", sequence={**WINDOW, "strategy": strategy}, **RUN)
        for strategy in ("direct", "recursive")
    }
    naive = ("last_value_mae", "seasonal_naive_mae")
    direct, recursive = (job["metrics"] for job in jobs.values())
    assert [direct[name] for name in naive] == [recursive[name] for name in naive]
    points = library.get(f"/v1/jobs/{jobs['recursive']['id']}/curve").json["points"]
    best = points[int(recursive["best_epoch"]) - 1]
    assert best["validation_loss"] == recursive["validation_loss"]
    assert recursive["mae"] > best["mae"], "the curve is of one step"
    later = library.dataset(sales(40))
    answer = library.post(
        f"/v1/models/{jobs['recursive']['model']}/evaluate", json={"dataset": later}
    )
    assert answer.json["rows"] == 40 - 12 - 3 + 1


def test_what_is_not_known_later_cannot_be_recurred_on(library):
    dataset = library.dataset(csv("t,sold,price", *(f"{n},{n}.5,{n % 7}.5" for n in range(60))))
    body = {"dataset": dataset, "target": "sold", "sequence": {**RECURSIVE, "order": "t"}}
    reason = refusal(library.post("/v1/jobs", json=body), "/features")
    assert "'price' is not known of the steps that are forecast" in reason
    assert "strategy `direct`" in reason
    body["features"] = ["sold"]
    assert library.post("/v1/jobs", json=body).status_code == 201
    body["sequence"]["strategy"] = "iterated"
    assert "expected one of" in refusal(library.post("/v1/jobs", json=body), "/sequence/strategy")


def test_a_model_tells_what_a_sequence_is(library, forecast, walk):
    body = library.get(f"/v1/models/{forecast['model']}").json
    assert body["sequence"] == forecast["spec"]["sequence"]
    assert [column["name"] for column in body["inputs"]] == ["sold"]
    body = library.get(f"/v1/models/{walk['model']}").json
    assert (body["sequence"]["length"], body["sequence"]["mask"]) == (7, True)
    assert [column["name"] for column in body["inputs"]] == ["x"]


def test_the_next_values_are_forecast_in_order(library, forecast):
    whole, array = window(100), {"sequence": [[season(n)] for n in range(100, 112)]}
    [first, second] = predicted(library.predict(forecast["model"], [whole, array]))
    assert first == second
    assert list(first) == ["value"]
    np.testing.assert_allclose(first["value"], [season(n) for n in (112, 113, 114)], atol=8)


def test_of_more_rows_than_a_window_the_last_count(library, forecast):
    [long] = predicted(library.predict(forecast["model"], [window(90, 22)]))
    [short] = predicted(library.predict(forecast["model"], [window(100)]))
    assert long == short


def test_rows_may_have_their_order_and_lack_a_value(library, forecast):
    dated = window(100)
    dated["sequence"][4] = {"month": "2008-09-01", "sold": None}
    [found] = predicted(library.predict(forecast["model"], [dated]))
    assert len(found["value"]) == 3


def test_one_step_and_several_targets_keep_their_form(library):
    lines = (f"{n},{season(n):.2f},{n % 5}" for n in range(60))
    dataset = library.dataset(csv("t,sold,left", *lines))
    rows = [{"sold": 100.0, "left": 2}] * 3
    for horizon in (1, 2):
        sequence = {"order": "t", "window": 3, "horizon": horizon}
        model = library.model(dataset, ["sold", "left"], sequence=sequence)
        [found] = predicted(library.predict(model, [{"sequence": rows}]))
        shapes = {name: np.shape(value) for name, value in found["values"].items()}
        assert shapes == dict.fromkeys(["sold", "left"], () if horizon == 1 else (horizon,))


def test_whole_series_are_classified(library, walk):
    up, down = [{"x": 1.0 * n} for n in range(5)], [[-1.0 * n] for n in range(7)]
    found = predicted(library.predict(walk["model"], [{"sequence": up}, {"sequence": down}]))
    assert [prediction["label"] for prediction in found] == ["up", "down"]


def test_windows_of_another_dataset_are_measured(library, forecast, walk):
    for job, data, rows in ((forecast, sales(40), 40 - 12 - 3 + 1), (walk, shapes(10, seed=1), 10)):
        body = {"dataset": library.dataset(data)}
        answer = library.post(f"/v1/models/{job['model']}/evaluate", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json["rows"] == rows
    assert answer.json["metrics"]["accuracy"] == 1.0


def test_a_dataset_that_does_not_fit_is_not_measured(library, forecast, walk):
    for job, data, reason in (
        (forecast, sales(14), "the longest series has 14 rows, fewer than window + horizon"),
        (forecast, csv("sold", "1", "2"), "column 'month': expected a column of the table"),
        (walk, shapes(4, 8, 9), "rows, but `length` is 7"),
    ):
        body = {"dataset": library.dataset(data)}
        answer = library.post(f"/v1/models/{job['model']}/evaluate", json=body)
        assert reason in refusal(answer, "/dataset")


@pytest.mark.parametrize(
    ("instance", "pointer", "reason"),
    [
        ({"sold": 1.0}, "", 'expected {"sequence": [row, row, ...]}'),
        ([1.0], "", 'expected {"sequence": [row, row, ...]}'),
        ({"sequence": [[1.0]] * 12, "more": 1}, "", 'expected {"sequence": [row, row, ...]}'),
        ({"sequence": {"sold": 1.0}}, "/sequence", "expected an array of rows, got an object"),
        ({"sequence": []}, "/sequence", "expected 12 rows or more, got 0"),
        ({"sequence": [[1.0]] * 11}, "/sequence", "expected 12 rows or more, got 11"),
        ({"sequence": [[1.0]] * 11 + [7]}, "/sequence/11", "an object or an array, got a number"),
        ({"sequence": [[1.0]] * 13 + [[1.0, 2.0]]}, "/sequence/13", "expected 1 values"),
        (
            {"sequence": [{"sold": 1.0}] * 12 + [{"sold": "no"}]},
            "/sequence/12/sold",
            "expected a number, got the string 'no'",
        ),
        ({"sequence": [[1.0]] * 11 + [["no"]]}, "/sequence/11/0", "expected a number"),
        ({"sequence": [{"price": 1.0}] * 12}, "/sequence/0/price", "none; there are 'sold'"),
    ],
)
def test_a_window_that_is_none_is_refused_with_its_place(
    library, forecast, instance, pointer, reason
):
    answer = library.predict(forecast["model"], [window(0), instance])
    assert reason in refusal(answer, f"/instances/1{pointer}")


@pytest.mark.parametrize("rows", [0, 8])
def test_a_series_of_no_length_or_too_much_is_refused(library, walk, rows):
    answer = library.predict(walk["model"], [{"sequence": [[1.0]] * rows}])
    reason = refusal(answer, "/instances/0/sequence")
    assert reason == f"expected 1 to 7 rows, got {rows}"


def test_a_window_without_any_value_is_refused(library, forecast):
    answer = library.predict(forecast["model"], [window(0), {"sequence": [[None]] * 12}])
    reason = refusal(answer, "/instances/1/sequence")
    assert reason == "expected a value of 'sold' in some row, got none"


def test_series_of_one_length_are_taken_at_that_length_alone(library):
    dataset = library.dataset(shapes(20, 4, 4))
    model = library.model(dataset, "way", sequence={"order": "step", "group": "who"})
    rows = [{"x": 1.0 * n} for n in range(5)]
    assert predicted(library.predict(model, [{"sequence": rows[:4]}]))
    for some in (rows[:3], rows):
        answer = library.predict(model, [{"sequence": some}])
        assert "expected 4 rows, got" in refusal(answer, "/instances/0/sequence")


def test_what_looks_inside_a_model_does_not_look_into_sequences(library, forecast):
    model = f"/v1/models/{forecast['model']}"
    for answer in (
        library.post(f"{model}/trace", json={"instance": window(0), "target": 1.0}),
        library.post(f"{model}/saliency", json={"instances": [window(0)]}),
        library.get(f"{model}/features"),
    ):
        assert "only models of single rows are shown" in problem(answer, 422)["detail"]
    assert library.get(f"{model}/weights").status_code == 200


def test_what_can_be_seen_at_submission_is_refused_there(library):
    dataset = library.dataset(sales(20))
    for sequence, pointer in (
        ({"order": "year", "window": 3}, "/sequence/order"),
        ({"order": "month", "window": 20}, "/sequence/window"),
        ({"order": "month", "window": 0}, "/sequence/window"),
        ({"order": "month"}, "/sequence/group"),
        ({"window": 3}, "/sequence/order"),
        ({"order": "month", "step": 3}, "/sequence/step"),
    ):
        body = {"dataset": dataset, "target": "sold", "sequence": sequence}
        refusal(library.post("/v1/jobs", json=body), pointer)


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ([1, 2, 1, 3], "3 different values in 4 rows; every row"),
        (["2030-01-02", "2030-01-03", "2030-01-02"], "2 different values in 3 rows; every row"),
    ],
)
def test_rows_of_one_series_in_one_place_are_named_at_submission(library, order, said):
    dataset = library.dataset(csv("x,t", *(f"{n}.5,{t}" for n, t in enumerate(order))))
    body = {"dataset": dataset, "target": "x", "sequence": {"order": "t", "window": 1}}
    reason = refusal(library.post("/v1/jobs", json=body), "/sequence/order")
    assert said in reason
    assert reason.endswith("in `group`; rows of one place are 1 and 3 (the first row is 1)")


def test_rows_of_one_place_in_the_dataset_to_validate_on_are_told_apart(library):
    dataset = library.dataset(csv("t,x", *(f"{n},{n}.5" for n in range(9))))
    other = library.dataset(csv("t,x", "3,0.5", "4,1.5", "5,1.5", "4,2.5"))
    validation, sequence = {"dataset": other}, {"order": "t", "window": 1}
    job = library.trained(dataset, "x", task=None, sequence=sequence, validation=validation)
    assert job["error"]["detail"].startswith(
        "of the dataset to validate on: column 't' has 4 twice: rows of one place are 2 and 4 "
    )


@pytest.mark.parametrize(
    ("lines", "sequence", "reason"),
    [
        (
            ["a,1,2.5,u", "a,2,3.5,u", "a,1,4.5,u", "b,1,0.5,v"],
            {"window": 2},
            "column 't' has 1 twice in series 'a': rows of one place are 1 and 3",
        ),
        (
            ["a,1,2.5,u", "a,2,3.5,v", "b,1,4.5,v", "b,2,0.5,v"],
            {},
            "column 'y' has more than one value in 1 series, such as series 'a', rows 1 and 2",
        ),
        (
            ["a,1,2.5,u", "a,2,,u", "a,3,1.5,u", "a,14,4.5,v"],
            {"window": 3, "relative": False},
            "no window is left to learn from; gaps: 1 step is of another size",
        ),
    ],
)
def test_what_only_the_rows_tell_ends_the_job_with_their_numbers(library, lines, sequence, reason):
    dataset = library.dataset(csv("s,t,x,y", *lines))
    sequence = {"order": "t", "group": "s", **sequence}
    target = "x" if "window" in sequence else "y"
    job = library.trained(dataset, target, task=None, sequence=sequence)
    assert (job["status"], job["error"]["code"]) == ("failed", "invalid_data"), job
    assert reason in job["error"]["detail"]
