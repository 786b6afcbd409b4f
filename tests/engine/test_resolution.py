"""Resolution: what is decided, and what is refused with a pointer into the spec."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.data.profiling import profile
from engine.data.table import Column, Table
from engine.errors import SpecError
from engine.network import Architecture, Inputs
from engine.preparation import prepare
from engine.resolution import AUTO_NETWORK, MAX_INTEGER_CLASSES, resolve
from engine.spec import (
    PARAMETER_BUDGET,
    Adam,
    ColumnSpec,
    DenseLayer,
    EmbeddingLayer,
    NetworkSpec,
    ResolvedSpec,
    Sgd,
    TrainingSpec,
    ValidationPart,
)
from tests.engine.beginnings import column, table

ROWS = 60
RNG = np.random.default_rng(5)
COLUMNS = {
    "width": RNG.standard_normal(ROWS).tolist(),
    "height": RNG.standard_normal(ROWS).tolist(),
    "many": list(range(ROWS)),
    "few": [row % MAX_INTEGER_CLASSES for row in range(ROWS)],
    "flag": [row % 2 == 0 for row in range(ROWS)],
    "colour": [("red", "green", "blue")[row % 3] for row in range(ROWS)],
    "side": [("left", "right")[row % 2] for row in range(ROWS)],
    "image": RNG.standard_normal((ROWS, 4, 5)),
    "same": ["rose"] * ROWS,
    "one": [1] * ROWS,
}
TEXT = Column("note", "text", np.array([f"note {row}" for row in range(ROWS)], dtype=object))
TIME = Column("when", "timestamp", np.arange(ROWS).astype("datetime64[us]"))
GAPS = column("gaps", [None if row in (4, 7) else 1.0 * row for row in range(ROWS)])
HOLES = column("holes", [None if row == 2 else "ab"[row % 2] for row in range(ROWS)])
ENDLESS = column("endless", [np.inf if row in (8, 9, 10) else 1.0 * row for row in range(ROWS)])
VOID = column("void", [None] * ROWS)
TORN = column("torn", np.where(np.arange(ROWS)[:, None] == 6, np.nan, np.ones((ROWS, 2))))
HUGE = column("huge", [(-1.0) ** row * 1e200 for row in range(ROWS)])
ALL = Table((*table(**COLUMNS).columns, TEXT, TIME, GAPS, HOLES, ENDLESS, HUGE, VOID, TORN))


def resolved(target, rows=ALL, budget=PARAMETER_BUDGET, **fields):
    asked = TrainingSpec(target=target, **fields)
    return resolve(asked, profile(rows), rows.rows, budget)


@pytest.mark.parametrize(
    ("target", "task", "loss"),
    [
        ("colour", "classification", "cross_entropy"),
        ("side", "classification", "cross_entropy"),
        ("flag", "classification", "cross_entropy"),
        ("few", "classification", "cross_entropy"),
        ("note", "classification", "cross_entropy"),
        ("many", "regression", "squared_error"),
        ("width", "regression", "squared_error"),
        (["width"], "regression", "squared_error"),
        (["few", "flag"], "regression", "squared_error"),
    ],
)
def test_the_task_follows_from_the_target_and_the_loss_from_the_task(target, task, loss):
    decided = resolved(target, features=["height"])
    assert (decided.task, decided.loss.type) == (task, loss)


@pytest.mark.parametrize(
    ("fields", "task", "loss"),
    [
        ({"task": "regression"}, "regression", "squared_error"),
        ({"task": "classification"}, "classification", "cross_entropy"),
        ({"loss": "squared_error"}, "classification", "squared_error"),
    ],
)
def test_what_is_said_is_not_decided_otherwise(fields, task, loss):
    decided = resolved("few", features=["width"], **fields)
    assert (decided.task, decided.loss.type) == (task, loss)


def test_features_are_all_other_columns_in_order():
    rows = table(a=[1.0, 2.0], y=[1.5, 2.5], b=[3.0, 4.0], z=[5.0, 6.0])
    assert resolved("y", rows).features == ["a", "b", "z"]
    assert resolved(["y", "b"], rows).features == ["a", "z"]
    assert resolved("y", rows, features=["z", "a"]).features == ["z", "a"]


@pytest.mark.parametrize(("rows", "fraction"), [(49, 0.0), (50, 0.2)])
def test_a_fifth_validates_from_fifty_rows_on(rows, fraction):
    some = table(x=[float(row) for row in range(rows)], y=[float(row) for row in range(rows)])
    assert resolved("y", some).validation == ValidationPart(fraction=fraction)
    asked = ValidationPart(fraction=0.5)
    assert resolved("y", some, validation=asked).validation == asked


def test_an_automatic_network_is_chosen_and_a_given_one_kept():
    assert resolved("colour", features=["width"]).network == AUTO_NETWORK
    linear = NetworkSpec(layers=[])
    assert resolved("colour", features=["width"], network=linear).network == linear


def test_everything_else_stays_as_it_was_said():
    said = {"optimizer": Sgd(nesterov=True), "seed": 9, "precision": "float64"}
    decided = resolved("colour", features=["width"], **said)
    assert {name: getattr(decided, name) for name in said} == said
    assert resolved("colour", features=["width"]).optimizer == Adam()


@pytest.mark.parametrize(
    ("target", "fields"),
    [
        ("colour", {"features": ["width", "side", "image"]}),
        ("few", {"features": ["colour"], "task": "regression"}),
        (["width", "height"], {"features": ["many"], "validation": ValidationPart(fraction=0.0)}),
        ("few", {"columns": {"endless": {"encode": "drop"}, "torn": {"encode": "drop"}}}),
        ("gaps", {"features": ["note", "same"], "columns": {"note": {"type": "category"}}}),
    ],
)
def test_resolving_what_is_resolved_changes_nothing(target, fields):
    once = resolved(target, **fields)
    assert resolve(once, profile(ALL), ALL.rows, PARAMETER_BUDGET) == once
    sent_again = TrainingSpec.model_validate_json(once.model_dump_json())
    assert resolve(sent_again, profile(ALL), ALL.rows, PARAMETER_BUDGET) == once
    assert type(once) is ResolvedSpec
    backwards = once.model_copy(update={"columns": dict(reversed(once.columns.items()))})
    again = resolve(backwards, profile(ALL), ALL.rows, PARAMETER_BUDGET)
    assert again.model_dump_json() == once.model_dump_json()


@pytest.mark.parametrize(
    ("target", "fields", "path", "reason"),
    [
        ("colr", {}, "/target", "the dataset has no column 'colr'; did you mean 'colour'?"),
        (["width", "hight"], {}, "/target/1", "no column 'hight'; did you mean 'height'?"),
        ("zzz", {}, "/target", "no column 'zzz'; there are 'width', 'height', 'many'"),
        (["width", "width"], {}, "/target/0", "'width' is given twice"),
        ("void", {}, "/target", "'void' has no value in any of its 60 rows; there is nothing"),
        ("endless", {}, "/target", "'endless' has 3 infinite, the first in row 9"),
        ("when", {}, "/target", "'when' is timestamp; it cannot be predicted"),
        ("image", {}, "/target", "'image' is tensor; it cannot be predicted"),
        ("same", {}, "/target", "'same' holds one class, 'rose'; there is nothing to tell apart"),
        ("one", {}, "/target", "'one' holds one class, 1; there is nothing to tell apart"),
        (["few", "flag"], {"task": "classification"}, "/target", "classification has one target"),
        ("colour", {"task": "regression"}, "/task", "'colour' is category; regression needs num"),
        ("note", {"task": "regression"}, "/task", "'note' is text; regression needs numbers"),
        (["width", "side"], {}, "/task", "'side' is category; regression needs numbers"),
        ("huge", {}, "/target", "'huge' overflows when squared; divide it by a large number"),
        (
            "width",
            {"loss": "cross_entropy"},
            "/loss",
            "cross_entropy is not for regression; squared_error",
        ),
        ("width", {"features": ["hieght"]}, "/features/0", "did you mean 'height'?"),
        ("width", {"features": ["few", "width"]}, "/features/1", "'width' is the target"),
        ("width", {"features": ["few", "few"]}, "/features/0", "'few' is given twice"),
        (
            "width",
            {"features": ["few", "note"]},
            "/features/1",
            "'note' is text, of which 60 of 60",
        ),
        (
            "width",
            {"features": ["torn"]},
            "/features/0",
            "'torn' has 1 missing or NaN, the first in",
        ),
        ("width", {"columns": {"colr": {}}}, "/columns/colr", "did you mean 'colour'?"),
        ("width", {"columns": {"a/b~c": {}}}, "/columns/a~1b~0c", "no column 'a/b~c'"),
        (
            "width",
            {"columns": {"width": {"scale": "none"}}},
            "/columns/width",
            "is the target; lea",
        ),
        ("width", {"columns": {"few": {"scale": "none"}}}, "/columns/few", "'few' is no feature"),
        (
            "width",
            {"columns": {"few": {"impute": 1.0}}, "features": None, "sample_weight": "few"},
            "/columns/few",
            "'few' is no feature; leave it out here",
        ),
        (
            "width",
            {"columns": {"many": {"encode": "drop"}}},
            "/columns/many/encode",
            "'many' is one of the features as well",
        ),
        ("width", {"features": ["endless"]}, "/features/0", "3 infinite, the first in row 9"),
    ],
)
def test_what_does_not_fit_is_refused_where_it_stands(target, fields, path, reason):
    with pytest.raises(SpecError) as refusal:
        resolved(target, **{"features": ["many"], **fields})
    assert refusal.value.path == path
    assert reason in refusal.value.reason


def test_features_that_were_not_listed_are_refused_as_a_whole():
    with pytest.raises(SpecError) as refusal:
        resolved("width", ALL.take(np.arange(15)), columns={"endless": {"encode": "drop"}})
    assert refusal.value.path == "/features"
    assert "column 'note' is text, of which 15 of 15 values differ; leave" in refusal.value.reason
    assert '`columns`: {"note": {"encode": "drop"}}, or give it the type' in refusal.value.reason


# -- columns -------------------------------------------------------------------------------------


def notes(decided):
    return {name: choice.note for name, choice in decided.columns.items() if choice.note}


def test_everything_that_is_left_open_about_a_column_is_decided():
    names = ["gaps", "flag", "holes", "when", "image", "colour"]
    decided = resolved("width", features=names).columns
    assert {name: decided[name].model_dump(mode="json") for name in names} == {
        "gaps": {"type": "number", "impute": "median", "scale": "robust"},
        "flag": {"type": "boolean", "impute": "median", "scale": "robust"},
        "holes": {"type": "category", "impute": "level", "scale": "robust", "encode": "one_hot"},
        "when": {"type": "timestamp", "impute": "median", "scale": "robust", "encode": "calendar"},
        "image": {"type": "tensor", "impute": "none", "scale": "standard"},
        "colour": {"type": "category", "impute": "level", "scale": "robust", "encode": "one_hot"},
    }


def test_what_is_said_of_a_column_is_not_decided_otherwise():
    said = {
        "gaps": ColumnSpec(impute=-1.0, scale="none"),
        "few": ColumnSpec(type="category", impute="none"),
        "when": ColumnSpec(encode="linear"),
    }
    decided = resolved("width", features=[*said, "flag"], columns=said).columns
    assert decided["gaps"] == ColumnSpec(type="number", impute=-1.0, scale="none")
    assert (decided["few"].type, decided["few"].impute) == ("category", "none")
    assert decided["when"].encode == "linear"


def test_ids_are_left_out_and_said_to_be():
    rows = table(
        PassengerId=[7 * row for row in range(ROWS)],
        row_no=[3 * row for row in range(ROWS)],
        code=[f"A{row}" for row in range(ROWS)],
        x=RNG.standard_normal(ROWS).tolist(),
        counts=[row * row for row in range(ROWS)],
        y=RNG.standard_normal(ROWS).tolist(),
    )
    decided = resolved("y", rows)
    assert decided.features == ["x", "counts"]
    assert {name: note.split(":")[0] for name, note in notes(decided).items()} == dict.fromkeys(
        ["PassengerId", "row_no", "code"], "left out as an id"
    )
    assert "60 of 60 values differ; give it a `type` in `columns`" in notes(decided)["code"]
    assert all(decided.columns[name].encode == "drop" for name in notes(decided))
    kept = resolved("y", rows, columns={"row_no": {"type": "number"}})
    assert kept.features == ["row_no", "x", "counts"]
    listed = resolved("y", rows, features=["row_no", "PassengerId"])
    assert listed.features == ["row_no", "PassengerId"]
    assert notes(listed) == {}


@pytest.mark.parametrize(
    ("values", "is_id"),
    [
        ([f"n{row}" for row in range(ROWS)], True),
        ([f"n{max(row, 6)}" for row in range(ROWS)], True),
        ([f"n{max(row, 7)}" for row in range(ROWS)], False),
        ([f"n{row} " + 96 * "x" for row in range(ROWS)], True),
        ([f"n{row} " + 98 * "x" for row in range(ROWS)], False),
    ],
)
def test_a_text_is_an_id_if_it_names_almost_each_row_in_few_words(values, is_id):
    rows = table(x=[0.5, 1.5] * 30, name=values, y=[1.0, 2.5] * 30)
    assert (resolved("y", rows).features == ["x"]) == is_id


@pytest.mark.parametrize(
    ("name", "values", "is_id"),
    [
        ("customer_id", range(ROWS), True),
        ("customer_id", [None, *range(ROWS - 1)], True),
        ("customer_id", [0, *range(ROWS - 1)], False),
        ("customer_id", [n + 0.5 for n in range(ROWS)], False),
        ("Unnamed: 0", range(ROWS), True),
        ("orderID", range(ROWS), True),
        ("humid", range(ROWS), False),
        ("paid", range(ROWS), False),
    ],
)
def test_an_integer_is_an_id_if_its_name_says_so_and_all_differ(name, values, is_id):
    rows = table(**{"x": [0.5, 1.5] * 30, name: list(values), "y": [1.0, 2.5] * 30})
    assert (resolved("y", rows).features == ["x"]) == is_id


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (range(ROWS), "numbers the rows from 0 on; if that is all, drop it"),
        (range(1, ROWS + 1), "numbers the rows from 1 on; if that is all, drop it"),
        (range(2, ROWS + 2), None),
        ([0, *range(ROWS - 1)], None),
        ([1.0 * n for n in range(ROWS)], None),
    ],
)
def test_what_numbers_the_rows_is_kept_and_said_to(values, note):
    rows = table(t=list(values), y=[1.0, 2.5] * 30)
    decided = resolved("y", rows)
    assert decided.features == ["t"]
    assert decided.columns["t"].note == note


def test_few_rows_are_not_taken_for_ids():
    rows = table(x=[f"n{row}" for row in range(19)], y=list(range(19)))
    assert resolved("y", rows).features == ["x"]


def test_a_dataset_of_nothing_but_ids_is_refused_with_their_names():
    rows = table(id=list(range(30)), y=[0.5, 1.5] * 15)
    with pytest.raises(SpecError, match="no column beside the target but ids: 'id'"):
        resolved("y", rows)


def test_a_constant_column_stays_and_is_said_to_tell_nothing():
    rows = table(x=[1.0, 2.0] * 9, one=[5] * 18, same=["a"] * 18, y=[1.5, 2.5] * 9)
    decided = resolved("y", rows)
    assert decided.features == ["x", "one", "same"]
    assert notes(decided) == dict.fromkeys(["one", "same"], "holds one value, which tells nothing")


def test_text_is_refused_taken_for_a_category_or_left_out():
    words = np.array([f"word {row // 2}" for row in range(ROWS)], dtype=object)
    rows = Table((*table(x=COLUMNS["width"], y=COLUMNS["height"]).columns, TEXT))
    repeated = Table((*rows.columns, Column("word", "text", words)))
    dropped = resolved("y", repeated, columns={"note": {"encode": "drop"}})
    assert dropped.features == ["x", "word"]
    assert (dropped.columns["word"].type, dropped.columns["word"].encode) == (
        "category",
        "embedding",
    )
    taken = resolved("y", rows, columns={"note": {"type": "category"}})
    assert taken.features == ["x", "note"]


@pytest.mark.parametrize(("levels", "embeds"), [(9, False), (10, True)])
def test_many_levels_are_embedded_by_an_automatic_network(levels, embeds):
    rows = table(kind=[f"k{row % levels}" for row in range(ROWS)], y=COLUMNS["width"])
    decided = resolved("y", rows)
    first = decided.network.layers[0]
    assert (decided.columns["kind"].encode == "embedding") == embeds
    assert (first.type == "embedding") == embeds
    one_hot = resolved("y", rows, columns={"kind": {"encode": "one_hot"}})
    assert one_hot.network == AUTO_NETWORK
    given = resolved("y", rows, network=AUTO_NETWORK)
    assert given.columns["kind"].encode == "one_hot"
    forced = resolved("y", rows, columns={"kind": {"encode": "embedding"}})
    assert forced.network.layers[0].type == "embedding"


def test_a_network_that_begins_with_an_embedding_embeds_more_than_two_levels():
    layers = [EmbeddingLayer(dimensions=3), DenseLayer(units=4)]
    names = ["colour", "side", "width"]
    decided = resolved("height", features=names, network=NetworkSpec(layers=layers))
    assert [decided.columns[name].encode for name in names] == ["embedding", "one_hot", None]


@pytest.mark.parametrize(
    ("column", "said", "field", "reason"),
    [
        ("colour", {"type": "number"}, "type", "column 'colour' is category; category would do"),
        ("width", {"type": "timestamp"}, "type", "is number; number, category would do"),
        ("image", {"type": "category"}, "type", "is tensor; tensor would do"),
        ("when", {"type": "number"}, "type", "is timestamp; timestamp would do"),
        ("colour", {"impute": "median"}, "impute", "median is not for a category; level, none"),
        ("colour", {"impute": 1.0}, "impute", "a number is not for a category; level, none"),
        ("width", {"impute": "level"}, "impute", "level is not for a number; median, mean, a num"),
        ("when", {"impute": 3.0}, "impute", "a number is not for a timestamp; median, mean, none"),
        ("image", {"impute": "mean"}, "impute", "mean is not for a tensor; none would do"),
        ("gaps", {"impute": "none"}, "impute", "'gaps' has 2 missing, the first in row 5; median"),
        ("holes", {"impute": "none"}, "impute", "'holes' has 1 missing, the first in row 3; level"),
        ("image", {"scale": "robust"}, "scale", "robust is not for a tensor; standard, none"),
        (
            "colour",
            {"scale": "standard", "encode": "embedding"},
            "scale",
            "an embedding is not scaled; leave it out",
        ),
        ("width", {"encode": "one_hot"}, "encode", "one_hot is not for a number; drop would do"),
        ("colour", {"encode": "cyclic"}, "encode", "cyclic is not for a category; one_hot, embed"),
        ("when", {"encode": "one_hot"}, "encode", "one_hot is not for a timestamp; calendar, cy"),
    ],
)
def test_what_cannot_happen_to_a_column_is_refused_where_it_stands(column, said, field, reason):
    with pytest.raises(SpecError) as refusal:
        resolved("height", features=[column], columns={column: said})
    assert refusal.value.path == f"/columns/{column}/{field}"
    assert reason in refusal.value.reason


def test_an_embedding_needs_a_network_that_begins_with_one():
    network = NetworkSpec(layers=[DenseLayer(units=4)])
    columns = {"colour": {"encode": "embedding"}}
    with pytest.raises(SpecError) as refusal:
        resolved("height", features=["colour"], columns=columns, network=network)
    assert refusal.value.path == "/columns/colour/encode"
    assert "the network has no embedding layer" in refusal.value.reason


def test_rows_without_a_target_are_left_out_and_said_to_be():
    decided = resolved("gaps", features=["width"])
    assert notes(decided) == {"gaps": "rows left out as they have no value here: 2"}
    assert resolve(decided, profile(ALL), ROWS, PARAMETER_BUDGET) == decided
    rows = table(x=[float(n) for n in range(51)], y=[None, None, *(1.5 * n for n in range(49))])
    assert resolved("y", rows).validation == ValidationPart(fraction=0.0)


def test_the_dataset_to_validate_on_may_lack_values_that_can_be_imputed():
    asked = {"target": "y", "features": ["x"], "validation": {"dataset": "ds_other"}}
    whole, gaps = table(x=[1.0, 2.0], y=[3.0, 4.0]), table(x=[None, 2.0], y=[3.0, None])
    other, void = profile(gaps), profile(table(x=[1.0], y=[None]))

    def against(others, **said):
        spec = TrainingSpec.model_validate({**asked, **said})
        return resolve(spec, profile(whole), 2, PARAMETER_BUDGET, others)

    assert against(other).features == ["x"]
    for columns, said, found in (
        (other, {"columns": {"x": {"impute": "none"}}}, "column 'x' has 1 missing or NaN"),
        (void, {}, "column 'y' has no value in any of its 1 rows"),
    ):
        with pytest.raises(SpecError, match=found) as refusal:
            against(columns, **said)
        assert refusal.value.path == "/validation/dataset"


def test_nan_within_a_tensor_counts_by_rows():
    image = COLUMNS["image"].copy()
    image[6, 1, 1:3] = np.nan
    rows = table(image=image, y=COLUMNS["width"])
    with pytest.raises(SpecError, match="'image' has 1 missing or NaN, the first in row 7"):
        resolved("y", rows)


def test_a_dataset_of_nothing_but_the_target_is_refused():
    with pytest.raises(SpecError) as refusal:
        resolved("y", table(y=[1.0, 2.0]))
    assert refusal.value.path == "/features"
    assert "no column beside the target" in refusal.value.reason


def test_one_row_cannot_be_divided():
    row = table(x=[1.0], y=[2.0])
    with pytest.raises(SpecError) as refusal:
        resolved("y", row, validation=ValidationPart(fraction=0.1))
    assert refusal.value.path == "/validation/fraction"
    assert resolved("y", row, validation=ValidationPart(fraction=0.0)).validation.fraction == 0
    two = table(x=[1.0, 2.0], y=[2.0, 3.0])
    assert resolved("y", two, validation=ValidationPart(fraction=0.1)).validation.fraction == 0.1


@pytest.mark.parametrize(
    ("target", "features", "inputs", "outputs"),
    [
        ("colour", ["width", "side", "flag"], 3, 3),
        ("side", ["colour", "same"], 4, 2),
        ("few", ["image"], 20, MAX_INTEGER_CLASSES),
        (["width", "height"], ["image", "colour", "few"], 24, 2),
    ],
)
def test_the_budget_is_held_against_the_very_network_that_would_be_trained(
    target, features, inputs, outputs
):
    hidden = NetworkSpec(layers=[DenseLayer(units=10)])
    fields = {"features": features, "network": hidden}
    count = Architecture(hidden, Inputs((inputs,)), outputs, "identity").parameter_count()
    decided = resolved(target, budget=count, **fields)
    prepared = prepare(ALL, decided)
    built = prepared.architecture
    assert (built.inputs.units, built.outputs) == (inputs, outputs)
    assert built.parameter_count() == count
    with pytest.raises(SpecError) as refusal:
        resolved(target, budget=count - 1, **fields)
    assert refusal.value.path == "/network"
    assert refusal.value.reason == (
        f"{count:,} weights and biases ({inputs} inputs, {outputs} outputs); "
        f"the budget is {count - 1:,}; use fewer or smaller layers"
    )


def test_a_network_beyond_all_memory_is_refused_at_once():
    widest = NetworkSpec(layers=[DenseLayer(units=2**53)] * 200)
    with pytest.raises(SpecError, match="the budget is 50,000,000"):
        resolved("colour", features=["width"], network=widest)


@pytest.mark.parametrize(
    ("kind", "where", "advice"),
    [
        ("integer", "/task", "ask for regression"),
        ("text", "/target", "join the rare ones and upload again"),
    ],
)
def test_more_classes_than_are_counted_are_not_told_apart(kind, where, advice):
    first, *others = profile(ALL)
    many = replace(first, type=kind, distinct=50_001, approximate=["distinct"])
    asked = TrainingSpec(target=many.name, features=["height"], task="classification")
    with pytest.raises(SpecError, match="holds 50,001 values or more, too many") as refusal:
        resolve(asked, [many, *others], ALL.rows, PARAMETER_BUDGET)
    assert (refusal.value.path, refusal.value.reason.endswith(f"; {advice}")) == (where, True)
