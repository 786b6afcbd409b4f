"""Models and states as bytes: the official format, back as they were, or not at all."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from engine import training as engine_training
from engine.checkpoint import (
    COUNTERS,
    dump_model,
    load_model,
    read_tensors,
    write_tensors,
)
from engine.data.table import Column, Table, table_from_instances
from engine.errors import CheckpointError
from engine.model import Model
from engine.preparation import prepare
from engine.spec import (
    Adam,
    ColumnSpec,
    DenseLayer,
    DropoutLayer,
    EmbeddingLayer,
    NetworkSpec,
    Sgd,
    TrainingRun,
)
from engine.training import train
from tests.engine.beginnings import data, dump_state, examples, load_state, spec, start, table

SHAPES = array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
NAMES = st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__")
TENSORS = st.dictionaries(
    NAMES, st.one_of(arrays(np.float32, SHAPES), arrays(np.float64, SHAPES)), max_size=4
)
METADATA = st.dictionaries(st.text(), st.text(), max_size=3)


def assert_same_tensors(a, b):
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert (tensor.dtype, tensor.shape) == (b[name].dtype, b[name].shape)
        assert tensor.tobytes() == b[name].tobytes()


def file(header, body=b""):
    """A safetensors file of a header, right or wrong, and its data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@given(tensors=TENSORS, metadata=METADATA)
def test_tensors_and_text_come_back_as_they_were_written(tensors, metadata):
    read, text = read_tensors(write_tensors(tensors, metadata))
    assert_same_tensors(read, tensors)
    assert text == metadata


@given(tensors=TENSORS, metadata=METADATA)
def test_the_official_package_reads_what_is_written(tmp_path_factory, tensors, metadata):
    written = write_tensors(tensors, metadata)
    assert_same_tensors(safetensors.numpy.load(written), tensors)
    path = tmp_path_factory.getbasetemp() / "written.safetensors"
    path.write_bytes(written)
    with safetensors.safe_open(path, "numpy") as opened:
        assert (opened.metadata() or {}) == metadata


# Without a tensor it writes a header that is not JSON, which it cannot read either.
@given(tensors=TENSORS.filter(len), metadata=METADATA)
def test_what_the_official_package_writes_is_read(tensors, metadata):
    read, text = read_tensors(safetensors.numpy.save(tensors, metadata))
    assert_same_tensors(read, tensors)
    assert text == metadata


@given(metadata=METADATA)
def test_the_data_begins_at_a_multiple_of_eight_bytes(metadata):
    written = write_tensors({"a": np.ones(1)}, metadata)
    assert int.from_bytes(written[:8], "little") % 8 == 0


def test_tensors_that_lie_otherwise_in_memory_are_written_in_order(rng):
    straight = rng.standard_normal((3, 4))
    for lying in (np.asfortranarray(straight), straight.astype(">f8"), np.tile(straight, 2)[:, :4]):
        read, _ = read_tensors(write_tensors({"a": lying}, {}))
        np.testing.assert_array_equal(read["a"], straight)


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"1234567",
        (100).to_bytes(8, "little") + b"{}",
        (2**63).to_bytes(8, "little") + b"{}",
        file(b"not json"),
        file(b"\xff\xfe\x00"),
        file(b"[]"),
        file(b"[" * 100_000),
        file({"__metadata__": "text"}),
        file({"a": 3}),
        file({"a": {}}),
        file({"a": entry([1], 0, 4, "I64")}, b"1234"),
        file({"a": entry([1], 0, 4, ["F32"])}, b"1234"),
        file({"a": entry("one", 0, 4)}, b"1234"),
        file({"a": entry([1.0], 0, 4)}, b"1234"),
        file({"a": entry([-1, -1], 0, 4)}, b"1234"),
        file({"a": entry([-1], 0, -4)}, b"1234"),
        file({"a": entry([2**70], 0, 2**72)}, b"1234"),
        file({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}, b"1234"),
        file({"a": {"dtype": "F32", "shape": [1], "data_offsets": None}}, b"1234"),
    ],
)
def test_a_header_that_is_not_one_is_refused(damaged):
    with pytest.raises(CheckpointError):
        read_tensors(damaged)


@pytest.mark.parametrize("length", [3, 2**31, 2**63])
def test_a_header_that_would_be_longer_than_the_data_is_refused_unread(length):
    with pytest.raises(CheckpointError, match="the header is longer than the data"):
        read_tensors(length.to_bytes(8, "little") + b"{}")


@pytest.mark.parametrize(
    ("header", "body_bytes"),
    [
        ({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, 12),
        ({"a": entry([2], 0, 8), "b": entry([2], 0, 8)}, 8),
        ({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, 12),
        ({"a": entry([1], 4, 8)}, 8),
        ({"a": entry([2], 0, 4)}, 4),
        ({"a": entry([1], 0, 8)}, 8),
        ({"a": entry([1], 0, 4, "F64")}, 4),
    ],
    ids=["overlap", "twice", "gap", "late", "too short", "too long", "another type"],
)
def test_tensors_that_do_not_tile_the_data_are_refused(header, body_bytes):
    with pytest.raises(CheckpointError, match="overlaps another or leaves a gap"):
        read_tensors(file(header, bytes(body_bytes)))


def test_bytes_that_were_cut_off_or_added_are_refused(rng):
    whole = write_tensors({"a": rng.standard_normal((2, 3)), "b": np.ones(1)}, {"kind": "x"})
    for size in range(len(whole)):
        with pytest.raises(CheckpointError):
            read_tensors(whole[:size])
    with pytest.raises(CheckpointError, match=f"expected {len(whole)} bytes, got {len(whole) + 1}"):
        read_tensors(whole + b"\0")


# -- models --------------------------------------------------------------------------------------

ROWS = 30
RNG = np.random.default_rng(3)
MIXED = {
    "size": RNG.standard_normal(ROWS).tolist(),
    "age": RNG.integers(0, 9, ROWS).tolist(),
    "new": (RNG.random(ROWS) < 0.5).tolist(),
    "colour": RNG.choice(["red", "green", "blue"], ROWS).tolist(),
    "image": RNG.standard_normal((ROWS, 2, 2)).astype(np.float32),
    "word": RNG.choice(["yes", "no", "perhaps"], ROWS).tolist(),
    "count": RNG.integers(0, 3, ROWS).tolist(),
    "flag": (RNG.random(ROWS) < 0.5).tolist(),
    "gaps": [None if row % 5 == 0 else float(row) for row in range(ROWS)],
    "city": [None if row % 7 == 0 else f"city {row % 4}" for row in range(ROWS)],
    "price": RNG.uniform(10, 20, ROWS).tolist(),
    "weight": RNG.uniform(1, 2, ROWS).tolist(),
}
FEATURES = ["size", "age", "new", "colour", "image"]
NUMBERS = {"task": "regression", "loss": "squared_error"}
TIMES = np.datetime64("2024-01-01", "us") + np.arange(ROWS) * np.timedelta64(5 * 10**10, "us")
WHEN = Column("when", "timestamp", np.where(np.arange(ROWS) == 3, np.datetime64("NaT"), TIMES))
EMBEDDED = NetworkSpec(layers=[EmbeddingLayer(dimensions=2), DenseLayer(units=4)])
COLUMNS = {
    "gaps": ColumnSpec(impute=0.1, scale="none"),
    "city": ColumnSpec(encode="embedding"),
    "age": ColumnSpec(type="category", impute="none"),
    "when": ColumnSpec(impute="mean", scale="standard", encode="cyclic"),
}


def model(**changes):
    """A model that was trained for two epochs on all kinds of columns, and the table."""
    training = TrainingRun(epochs=2, batch_size=8)
    how = spec(**{"features": FEATURES, "target": "word", "training": training, **changes})
    rows = Table((*table(**MIXED).columns, WHEN))
    prepared = prepare(rows, how)
    state = engine_training.start(how, prepared.architecture)
    list(train(state, prepared.data, how))
    return Model(how, prepared.features, prepared.target, state.best_network()), rows


EVERY_MODEL = pytest.mark.parametrize(
    "changes",
    [
        {"target": "word"},
        {"target": "count"},
        {"target": "flag"},
        {"target": "price", **NUMBERS},
        {"target": ["price", "weight"], **NUMBERS},
        {"target": "word", "precision": "float64"},
        {"target": "word", "loss": "squared_error"},
        {"target": "word", "network": NetworkSpec(layers=[])},
        {"features": ["size", "gaps", "city", "when", "image"]},
        {"features": [*COLUMNS, "colour"], "columns": COLUMNS, "network": EMBEDDED},
        {
            "target": "word",
            "network": NetworkSpec(
                layers=[DenseLayer(units=5, bias=False), DropoutLayer(rate=0.2)]
            ),
        },
    ],
    ids=[
        "words",
        "integers",
        "booleans",
        "number",
        "numbers",
        "double",
        "brier",
        "linear",
        "gaps",
        "choices",
        "drop",
    ],
)


@EVERY_MODEL
def test_a_loaded_model_predicts_the_same_bits(changes):
    trained, rows = model(**changes)
    written = dump_model(trained)
    loaded = load_model(written)
    np.testing.assert_array_equal(loaded.predict(rows), trained.predict(rows))
    assert loaded.evaluate(rows).metrics == trained.evaluate(rows).metrics
    assert (loaded.settings, loaded.inputs, loaded.outputs) == (
        trained.settings,
        trained.inputs,
        trained.outputs,
    )
    assert repr(loaded.classes) == repr(trained.classes)
    assert loaded.features.describe() == trained.features.describe()
    assert loaded.features.names == trained.features.names
    unknown = [{"image": [0] * 4, "city": "nowhere", "age": 77}]
    if any(column.name == "image" for column in loaded.inputs):
        needed = {column.name for column in loaded.inputs} & set(unknown[0])
        later = table_from_instances(loaded.inputs, [{n: unknown[0][n] for n in needed}])
        np.testing.assert_array_equal(loaded.predict(later), trained.predict(later))
    assert dump_model(loaded) == written


def test_the_official_package_reads_the_weights_of_a_model():
    trained, _ = model()
    tensors = safetensors.numpy.load(dump_model(trained))
    for name, tensor in trained.network.tensors().items():
        np.testing.assert_array_equal(tensors[name], tensor)


def test_a_loaded_model_cannot_be_written():
    loaded = load_model(dump_model(model()[0]))
    with pytest.raises(ValueError, match="read-only"):
        loaded.network.parameters[0] = 0


def rewritten(written, kind=None, version=None, content=None, tensors=None):
    """The same file with some of it changed."""
    old_tensors, metadata = read_tensors(written)
    new = {"kind": kind, "version": version, "content": content}
    metadata |= {name: value for name, value in new.items() if value is not None}
    return write_tensors({**old_tensors, **(tensors or {})}, metadata)


@pytest.mark.parametrize("version", ["0", "1", "2.0", ""])
def test_another_version_is_refused_by_its_name(version):
    with pytest.raises(CheckpointError, match=f"format version {version}: ") as refusal:
        load_model(rewritten(dump_model(model()[0]), version=version))
    assert refusal.value.version == version


def test_a_state_is_no_model_and_a_model_no_state():
    how = spec()
    state = dump_state(start(how, inputs=2, outputs=3))
    with pytest.raises(CheckpointError, match="expected model of version 2, got 'states'"):
        load_model(state)
    with pytest.raises(CheckpointError, match="expected states of version 2, got 'model'"):
        load_state(dump_model(model()[0]), how, inputs=2, outputs=3)
    with pytest.raises(CheckpointError, match="got None"):
        load_model(safetensors.numpy.save({"a": np.ones(1)}))


@pytest.mark.parametrize("content", ["", "{}", "[]", "3", '{"spec": {}}', "[" * 100_000])
def test_a_model_whose_content_is_damaged_is_refused(content):
    with pytest.raises(CheckpointError):
        load_model(rewritten(dump_model(model()[0]), content=content))


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (4, 9), (9, 4, 1)])
def test_a_model_whose_weights_have_another_shape_is_refused(shape):
    weight = {"layers.0.weight": np.ones(shape, dtype=np.float32)}
    with pytest.raises(CheckpointError, match=r"layers\.0\.weight"):
        load_model(rewritten(dump_model(model()[0]), tensors=weight))


def test_a_model_with_weights_that_its_network_does_not_have_is_refused():
    more = {"layers.0.vectors_3": np.ones((4, 8), dtype=np.float32)}
    with pytest.raises(CheckpointError, match=r"'layers\.0\.vectors_3' is another network's"):
        load_model(rewritten(dump_model(model()[0]), tensors=more))


@pytest.mark.parametrize("name", ["features.center", "features.scale"])
@pytest.mark.parametrize("width", [0, 9, 11])
def test_a_model_whose_scale_is_of_another_width_is_refused(name, width):
    with pytest.raises(CheckpointError, match="10 numbers, but"):
        load_model(rewritten(dump_model(model()[0]), tensors={name: np.ones(width)}))


def test_a_model_without_its_weights_is_refused():
    tensors, metadata = read_tensors(dump_model(model()[0]))
    for name in tensors:
        without = {other: tensor for other, tensor in tensors.items() if other != name}
        with pytest.raises(CheckpointError):
            load_model(write_tensors(without, metadata))


# -- states --------------------------------------------------------------------------------------

OPTIMIZERS = pytest.mark.parametrize(
    "optimizer", [Adam(), Sgd(), Sgd(momentum=0.0)], ids=["adam", "sgd", "plain"]
)
SHAPE = {"inputs": 2, "outputs": 3}


def trained_state(how):
    state = start(how, **SHAPE)
    list(train(state, data(examples(20, dtype=how.precision)), how))
    return state


@pytest.mark.parametrize("precision", ["float32", "float64"])
@OPTIMIZERS
def test_a_state_comes_back_as_it_was(optimizer, precision):
    layers = [DenseLayer(units=4), DropoutLayer(rate=0.3)]
    how = spec(
        network=NetworkSpec(layers=layers),
        optimizer=optimizer,
        precision=precision,
        training=TrainingRun(epochs=2, batch_size=6),
    )
    state = trained_state(how)
    written = dump_state(state)
    loaded = load_state(written, how, **SHAPE)
    assert dump_state(loaded) == written
    for name in COUNTERS:
        assert getattr(loaded, name) == getattr(state, name)
    np.testing.assert_array_equal(loaded.network.parameters, state.network.parameters)
    np.testing.assert_array_equal(loaded.best_numbers, state.best_numbers)
    assert loaded.optimizer.t == state.optimizer.t == 8
    assert loaded.dropout.random() == state.dropout.random()
    loaded.network.parameters[0] = 1  # what is loaded can be trained on


def test_every_number_of_a_state_is_saved():
    state = start(spec(), **SHAPE)
    scalars = {name for name in vars(state) if isinstance(vars(state)[name], int | float)}
    assert scalars == set(COUNTERS)


def test_a_state_without_a_loss_yet_comes_back():
    state = start(spec(), **SHAPE)
    loaded = load_state(dump_state(state), spec(), **SHAPE)
    assert loaded.best_loss == loaded.train_loss == float("inf")


@pytest.mark.parametrize(
    ("other", "shape"),
    [
        (spec(), {"inputs": 3, "outputs": 3}),
        (spec(), {"inputs": 2, "outputs": 2}),
        (spec(network=NetworkSpec(layers=[])), SHAPE),
        (spec(optimizer=Sgd()), SHAPE),
    ],
    ids=["inputs", "outputs", "layers", "optimizer"],
)
def test_a_state_of_another_network_or_optimizer_is_refused(other, shape):
    written = dump_state(trained_state(spec(training=TrainingRun(epochs=1))))
    with pytest.raises(CheckpointError):
        load_state(written, other, **shape)


def test_a_state_that_was_damaged_is_refused():
    how = spec(training=TrainingRun(epochs=1))
    written = dump_state(trained_state(how))
    content = json.loads(read_tensors(written)[1]["content"])
    saved, facts = content["states"][0], content["facts"]
    lacking = [{"facts": facts}, {"states": [saved]}, {"states": [], "facts": facts}]
    for name in saved:
        other = {key: value for key, value in saved.items() if key != name}
        lacking.append({"states": [other], "facts": facts})
    for without in lacking:
        with pytest.raises(CheckpointError):
            load_state(rewritten(written, content=json.dumps(without)), how, **SHAPE)
    stretched = {"0.numbers": np.ones(1, dtype=np.float32)}
    with pytest.raises(CheckpointError, match="numbers"):
        load_state(rewritten(written, tensors=stretched), how, **SHAPE)
    for size in (0, 7, 8, 100, len(written) - 1):
        with pytest.raises(CheckpointError):
            load_state(written[:size], how, **SHAPE)
