"""A training with its rows on disk is that in memory, but for the order of the rows."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from engine import outofcore, training
from engine.checkpoint import read_tensors
from engine.data import disk
from engine.data.formats.ingestion import ingest
from engine.data.formats.stored import StoredRows, read_table
from engine.errors import SpecError
from engine.fitting import fit, fit_from_disk
from engine.outofcore import prepare_on_disk
from engine.preparation import prepare
from engine.resolution import resolve
from engine.spec import PARAMETER_BUDGET, TrainingSpec
from tests.engine.beginnings import DATA

NETWORK = {"layers": [{"type": "dense", "units": 16}, {"type": "dropout", "rate": 0.1}]}
FEW_EPOCHS = 3


class Kept:
    """A dataset whose kept file is here, to be trained on."""

    def __init__(self, folder, content, kind="csv"):
        self.file, self.scratch = folder / "kept.arrow", folder / "scratch"
        source = folder / "source"
        source.write_bytes(content)
        self.found = ingest(source, kind, self.file)
        self.rows = StoredRows(self.file)

    def spec(self, place="disk", **asked):
        wanted = {
            "target": "y",
            "network": NETWORK,
            **asked,
            "training": {"epochs": FEW_EPOCHS, "rows": place, **asked.get("training", {})},
        }
        columns = self.found.columns
        spec = TrainingSpec.model_validate(wanted)
        return resolve(spec, columns, self.found.rows, PARAMETER_BUDGET, columns)

    def prepared(self, **asked):
        """What is prepared in memory, and on disk."""
        beside = isinstance(asked.get("validation"), dict) and "dataset" in asked["validation"]
        how = self.spec("memory", **asked)
        table = read_table(self.file, how.column_names)
        in_memory = prepare(table, how, table if beside else None)
        how, rows = self.spec(**asked), self.rows
        return in_memory, prepare_on_disk(rows, how, self.scratch, rows if beside else None)

    def fit(self, saved=None, **asked):
        return fit_from_disk(self.rows, self.spec(**asked), self.scratch, saved=saved)


def mixed(rows=500):
    """Numbers, texts and times with gaps, also in the targets, and weights."""
    rng = np.random.default_rng(0)
    lines = ["a,b,c,d,w,y,z"]
    for row in range(rows):
        a = "" if row % 11 == 0 else f"{rng.normal():.4f}"
        c = "" if row % 13 == 0 else f"level {rng.integers(12)}"
        y = "" if row % 17 == 0 else ("red", "green", "blue")[row % 3]
        day = f"2026-{row % 12 + 1:02}-0{row % 7 + 1}"
        lines.append(f"{a},{row % 2 == 0},{c},{day},{row % 4},{y},{rng.normal():.4f}")
    return "\n".join([*lines, ""]).encode()


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The mixed columns."""
    return Kept(tmp_path_factory.mktemp("mixed"), mixed())


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Digits of handwriting, sorted by what they are."""
    lines = gzip.decompress((DATA / "digits.csv.gz").read_bytes()).decode().splitlines()
    name = lines[0].rsplit(",", 1)[1]
    by_class = sorted(lines[1:], key=lambda line: line.rsplit(",", 1)[1])
    head = lines[0].removesuffix(name) + "y"
    return Kept(tmp_path_factory.mktemp("digits"), "\n".join([head, *by_class, ""]).encode())


@pytest.fixture
def small_windows(monkeypatch):
    """Windows and pieces of some rows, so that there are many of them."""
    monkeypatch.setattr(disk, "WINDOW_BYTES", 2**15)
    monkeypatch.setattr(outofcore, "PIECE_BYTES", 2**17)


def assert_same_examples(ours, theirs):
    np.testing.assert_array_equal(ours.x, theirs.x)
    np.testing.assert_array_equal(ours.y, theirs.y)
    assert ours.x.dtype == theirs.x.dtype
    assert (ours.weights is None) == (theirs.weights is None)
    if ours.weights is not None:
        np.testing.assert_array_equal(ours.weights, theirs.weights)


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"precision": "float64"},
        {"features": ["d", "a", "c"], "class_weights": "balanced"},
        {"sample_weight": "w", "validation": {"fraction": 0.0}},
        {"target": ["z", "a"], "features": ["b", "c"], "sample_weight": "w"},
        {"target": "z", "validation": {"dataset": "ds_other"}, "sample_weight": "w"},
        {"validation": {"dataset": "ds_other"}},
    ],
    ids=lambda asked: ", ".join(asked) or "as usual",
)
def test_few_rows_become_what_they_become_in_memory(kept, asked):
    in_memory, on_disk = kept.prepared(**asked)
    assert on_disk.features.facts == in_memory.features.facts
    np.testing.assert_array_equal(on_disk.features.scale, in_memory.features.scale)
    assert on_disk.architecture == in_memory.architecture
    assert_same_examples(on_disk.data.training, in_memory.data.training)
    assert (on_disk.data.validation is None) == (in_memory.data.validation is None)
    if on_disk.data.validation is not None:
        assert_same_examples(on_disk.data.validation, in_memory.data.validation)


def test_many_rows_are_scaled_by_a_sample_of_them_that_the_seed_draws(digits, monkeypatch):
    monkeypatch.setattr(outofcore, "SAMPLE_ROWS", 200)
    in_memory, once = digits.prepared(seed=1)
    _, again = digits.prepared(seed=1)
    scales = [prepared.features.scale for prepared in (in_memory, once, again)]
    np.testing.assert_array_equal(scales[1], scales[2])
    assert not np.array_equal(scales[0], scales[1])
    np.testing.assert_array_equal(once.data.training.x, again.data.training.x)
    np.testing.assert_array_equal(once.data.training.y, in_memory.data.training.y)


def test_images_are_scaled_by_as_many_as_find_room(tmp_path, monkeypatch):
    monkeypatch.setattr(outofcore, "SAMPLE_BYTES", 8 * 28 * 28 * 50)
    digits = Kept(tmp_path, (DATA / "mnist_5k.npz").read_bytes(), "npz")
    asked = {"target": digits.found.columns[-1].name, "network": {"layers": []}}
    in_memory, on_disk = digits.prepared(**asked)
    ours, theirs = (float(p.features.scale[0][0]) for p in (on_disk, in_memory))
    assert ours != theirs
    assert ours == pytest.approx(theirs, rel=0.15)


def end_of(fitting):
    for _ in fitting.run():
        pass
    return fitting.save()


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_training_goes_on_bit_for_bit_from_within_an_epoch_and_from_its_end(
    digits, precision, monkeypatch
):
    monkeypatch.setattr(training, "REPORT_SECONDS", 0.0)
    asked = {"precision": precision, "training": {"epochs": 2, "batch_size": 64}}
    whole = digits.fit(**asked)
    places = ((whole.state.epoch, whole.state.batch) for _ in whole.run())
    saved = [whole.save() for place in places if place in ((1, 0), (1, 13))]
    assert len(saved) == 2
    for before in saved:
        late = digits.fit(saved=before, **asked)
        assert _numbers(end_of(late)) == _numbers(whole.save())


def _numbers(saved):
    """What was saved, without the seconds that it took."""
    tensors, _ = read_tensors(saved)
    return {name: tensor.tobytes() for name, tensor in tensors.items()}


@pytest.mark.usefixtures("small_windows")
def test_another_seed_trains_another_network(digits):
    one, other = (_numbers(end_of(digits.fit(seed=seed))) for seed in (0, 1))
    assert one != other


@pytest.mark.usefixtures("small_windows")
def test_rows_that_are_sorted_by_class_are_learnt_as_well_as_in_memory(digits):
    asked = {"training": {"epochs": 20}, "optimizer": {"type": "adam", "learning_rate": 0.005}}
    how = digits.spec("memory", **asked)
    in_memory = fit(read_table(digits.file, how.column_names), how)
    on_disk = digits.fit(**asked)
    best = []
    for fitting in (in_memory, on_disk):
        points = [report.point for report in fitting.run() if report.point is not None]
        best.append(max(point.metrics["accuracy"] for point in points))
    assert min(best) > 0.93
    assert best[1] == pytest.approx(best[0], abs=0.02)


@pytest.mark.parametrize("optimizer", ["lbfgs", "rprop"])
def test_all_rows_in_one_batch_are_trained_on_as_in_memory(kept, optimizer):
    asked = {
        "optimizer": {"type": optimizer},
        "network": {"layers": [{"type": "dense", "units": 4}]},
    }
    how = kept.spec("memory", **asked)
    in_memory = fit(read_table(kept.file, how.column_names), how)
    assert _numbers(end_of(kept.fit(**asked))) == _numbers(end_of(in_memory))


def test_cross_validation_needs_the_rows_in_memory(kept):
    with pytest.raises(SpecError, match="validate on a `fraction` of them instead") as refusal:
        kept.spec(validation={"folds": 3})
    assert refusal.value.path == "/training/rows"
