"""The estimate of a training's memory is enough, and not much more than that."""

from __future__ import annotations

import pytest

from engine import spec
from engine.data.profiling import ColumnProfile
from engine.errors import SpecError
from engine.footprint import check_memory, footprint, place_rows
from engine.resolution import resolve
from engine.spec import PARAMETER_BUDGET, TrainingSpec
from tests.engine.trainings import CASES, PLACES, limited, prepare

MIB = 2**20
LARGE_BYTES = 100 * MIB


@pytest.fixture(scope="module")
def process():
    """A process whose children train under limits of memory."""
    with limited() as found:
        yield found


@pytest.mark.parametrize("name", CASES)
def test_a_training_fits_into_its_estimate_and_a_large_one_not_into_a_third_of_it(
    process, name, tmp_path
):
    prepared = prepare(name, tmp_path)
    needed_at_most = prepared.estimate.bytes
    assert process.fits(prepared, needed_at_most)
    if needed_at_most > LARGE_BYTES:
        assert not process.fits(prepared, needed_at_most // 3)


def test_rows_that_are_on_disk_need_less_memory_than_they_take(process, tmp_path):
    on_disk, in_memory = (prepare(name, tmp_path) for name in PLACES)
    limit = on_disk.estimate.bytes
    assert on_disk.file.stat().st_size > limit
    assert process.fits(on_disk, limit)
    assert not process.fits(in_memory, limit)


def test_rows_are_placed_where_there_is_room_for_them_unless_the_spec_says_where():
    settings, rows = asked(rows=10**6), 10**6
    in_memory, on_disk = (
        asked(rows=rows, training={"rows": place}) for place in ("memory", "disk")
    )
    needed = [footprint(found, COLUMNS, rows).bytes for found in (in_memory, on_disk)]
    assert needed[1] < needed[0]
    for limit, place in zip(needed, ("memory", "disk"), strict=True):
        assert place_rows(settings, COLUMNS, rows, limit).training.rows == place
        assert place_rows(on_disk, COLUMNS, rows, limit) == on_disk
    with pytest.raises(SpecError, match="the limit is"):
        place_rows(settings, COLUMNS, rows, needed[1] - 1)
    with pytest.raises(SpecError, match='or leave them on disk: {"training": {"rows": "disk"}}'):
        place_rows(in_memory, COLUMNS, rows, needed[1])
    folds = asked(rows=rows, validation={"folds": 2})
    with pytest.raises(SpecError) as refusal:
        place_rows(folds, COLUMNS, rows, needed[1])
    assert "disk" not in refusal.value.reason


def number(name):
    return ColumnProfile(name, "number", missing=0, distinct=100, min=0.0, max=1.0, std=0.5)


COLUMNS = [number("x"), number("y")]
PICTURES = [ColumnProfile("x", "tensor", missing=0, shape=[28, 28], std=1.0), number("y")]
FLOAT32_BYTES = 4


def asked(columns=COLUMNS, rows=1000, **fields):
    wanted = TrainingSpec.model_validate({"target": "y", "task": "regression", **fields})
    return resolve(wanted, columns, rows, PARAMETER_BUDGET, columns)


def dense(units, count=1):
    return {"layers": [{"type": "dense", "units": units}] * count}


@pytest.mark.parametrize(
    ("place", "rows", "fields"),
    [
        ("/dataset", 10**7, {"network": dense(1), "training": {"batch_size": 1}}),
        ("/network", 1000, {"network": dense(4000, 2), "optimizer": {"type": "sgd"}}),
        ("/optimizer", 1000, {"network": dense(2000, 2), "optimizer": {"type": "lbfgs"}}),
        ("/training/batch_size", 10**5, {"training": {"batch_size": "full"}}),
        ("/validation/folds", 10**5, {"validation": {"folds": 20}}),
    ],
)
def test_a_training_that_does_not_fit_is_refused_where_it_asks_for_the_most(place, rows, fields):
    settings = asked(rows=rows, **fields)
    needed = footprint(settings, COLUMNS, rows).bytes
    check_memory(settings, COLUMNS, rows, needed)
    with pytest.raises(SpecError) as refusal:
        check_memory(settings, COLUMNS, rows, needed - 1)
    assert refusal.value.path == place
    assert refusal.value.reason.startswith(f"about {needed:,} bytes of memory, ")
    assert f"the limit is {needed - 1:,}; use " in refusal.value.reason


def test_the_rows_of_the_dataset_to_validate_on_count():
    settings = asked(validation={"dataset": "ds_other"})
    alone, beside = (footprint(settings, COLUMNS, 1000, n).bytes for n in (0, 10**6))
    assert beside - alone > 10**6 * 3 * FLOAT32_BYTES  # x, the unit of the biases, and y


@pytest.mark.parametrize(
    "layers",
    [
        [{"type": "conv2d", "filters": 1, "kernel": 1, "padding": 1024}] * 100
        + [{"type": "average_pool2d", "window": window} for window in (1024, 200)],
        [
            {"type": "conv2d", "filters": 1000, "kernel": 200, "padding": 1000},
            {"type": "average_pool2d", "window": 1024},
        ],
    ],
    ids=["images of billions", "patches of billions"],
)
@pytest.mark.parametrize("batch", [1, 32, "full"])
def test_what_no_machine_has_is_counted_without_taking_it(layers, batch):
    fields = {"network": {"layers": layers}, "training": {"batch_size": batch}}
    settings = asked(PICTURES, rows=10**7, **fields)
    with pytest.raises(SpecError, match="the limit is 17,179,869,184"):
        check_memory(settings, PICTURES, 10**7, 2**34)


def test_what_a_relaxation_takes_does_not_grow_with_its_iterations():
    layer = {"type": "equilibrium", "units": 100}
    few, many = (
        footprint(asked(network={"layers": [{**layer, "max_iterations": n}]}), COLUMNS, 1000)
        for n in (1, 2_000)
    )
    assert few == many


def test_every_optimizer_is_known_by_what_it_remembers():
    networks = {"network": dense(1000, 2)}
    needed = {
        kind().type: footprint(
            asked(optimizer={"type": kind().type}, training={"epochs": 1}, **networks),
            COLUMNS,
            1000,
        ).parts["/optimizer"]
        for kind in spec.Optimizer.__origin__.__args__
    }
    assert needed["sgd"] < needed["adam"] < needed["rprop"] < needed["lbfgs"]
