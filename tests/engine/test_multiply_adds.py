"""The arithmetic of a training is what one counts by hand."""

from __future__ import annotations

import pytest

from engine.data.profiling import ColumnProfile
from engine.errors import SpecError
from engine.footprint import check_multiply_adds, multiply_adds
from tests.engine.test_footprint import COLUMNS, PICTURES, asked, dense


def counted(columns=COLUMNS, rows=100, validation_rows=0, **fields):
    fields = {"training": {"epochs": 1}, "validation": {"fraction": 0.0}, **fields}
    return multiply_adds(asked(columns, rows, **fields), columns, rows, validation_rows)


def test_dense_layers():
    # x -> 3 -> relu -> y: forward 3 + 3 + 3, back as much for weights and for what is below them.
    there, back = 1 * 3 + 3 + 3 * 1, 1 * 3 + 3 + 2 * (3 * 1)
    assert counted(network=dense(3)) == 100 * (there + back)


def test_biases_are_no_products():
    layer = {"type": "dense", "units": 3}
    with_bias, without = (
        counted(network={"layers": [{**layer, "bias": b}]}) for b in (True, False)
    )
    assert with_bias == without


def test_convolution_and_pooling():
    # 28x28 -> two filters of 3x3, padded -> 2x28x28 -> means of 2x2 -> 2x14x14 -> y
    layers = [
        {"type": "conv2d", "filters": 2, "kernel": 3, "padding": 1, "activation": "identity"},
        {"type": "average_pool2d", "window": 2},
    ]
    filters, pooling, last = 9 * 2 * 28 * 28, 2 * (2 * 28 * 14 + 2 * 14 * 14), 2 * 14 * 14
    there, back = filters + pooling + last, filters + pooling + 2 * last
    assert counted(PICTURES, network={"layers": layers}) == 100 * (there + back)


def test_a_layer_that_relaxes_takes_all_iterations_that_it_may():
    layer = {"type": "equilibrium", "units": 3, "max_iterations": 50}
    hidden = 1 * 3 + 50 * 3 * 3
    there, back = hidden + 3 * 1, hidden + 2 * (3 * 1)
    assert counted(network={"layers": [layer]}) == 100 * (there + back)


def test_a_recurrent_layer_meets_each_weight_of_each_gate_at_every_step():
    series = [*COLUMNS, ColumnProfile("t", "integer", missing=0, distinct=100, min=0.0, max=99.0)]
    layer = {"type": "gru", "units": 3, "bidirectional": True}
    fields = {"features": ["x"], "sequence": {"order": "t", "window": 10}}
    found = counted(series, network={"layers": [layer]}, **fields)
    hidden = 10 * 2 * 3 * 3 * (2 + 3)
    there, back = hidden + 6 * 1, hidden + 2 * (6 * 1)
    assert found == 90 * (there + back)


def test_vectors_are_fetched_at_every_step_and_widen_it():
    series = [
        *COLUMNS,
        ColumnProfile("t", "integer", missing=0, distinct=100, min=0.0, max=99.0),
        ColumnProfile("word", "category", missing=0, distinct=3, top=[["a", 40]]),
    ]
    layers = [{"type": "embedding", "dimensions": 4}, {"type": "rnn", "units": 3}]
    fields = {"features": ["x", "word"], "sequence": {"order": "t", "window": 10}}
    found = counted(series, network={"layers": layers}, **fields)
    vectors, hidden = 10 * (2 + 4), 10 * 3 * (2 + 4 + 3)
    there, back = vectors + hidden + 3, vectors + 2 * hidden + 2 * 3
    assert found == 90 * (there + back)


def test_a_block_is_its_layers_and_a_sum():
    inner = {"type": "dense", "units": 4, "activation": "identity"}
    block = {"type": "residual", "layers": [inner]}
    alone = counted(network={"layers": [inner]})
    assert counted(network={"layers": [inner, block]}) == alone + 100 * (3 * 16 + 2 * 4)


def test_it_grows_with_epochs_and_not_with_the_batch():
    once = counted(network=dense(3))
    assert counted(network=dense(3), training={"epochs": 7, "batch_size": 1}) == 7 * once


@pytest.mark.parametrize(
    ("validation", "validation_rows", "trained", "measured"),
    [
        ({"fraction": 0.2}, 0, 80, 20),
        ({"dataset": "ds_other"}, 30, 100, 30),
        ({"folds": 5}, 0, 5 * 80 + 100, 5 * 20),
    ],
)
def test_rows_that_are_measured_on_go_forward_only(validation, validation_rows, trained, measured):
    forward, there_and_back = 9, 21
    found = counted(network=dense(3), validation=validation, validation_rows=validation_rows)
    assert found == trained * there_and_back + measured * forward


def test_a_number_of_any_size_is_exact():
    layers = dense(4000, 2)
    found = counted(rows=10**9, network=layers, training={"epochs": 10**6})
    forward, back = 4000 + 4000**2 + 4000 + 8000, 4000 + 2 * 4000**2 + 2 * 4000 + 8000
    assert found == 10**15 * (forward + back)


def test_more_than_the_limit_is_refused_with_both_numbers():
    check_multiply_adds(1000, 1000)
    with pytest.raises(
        SpecError, match="1,001 multiply-adds in all; the limit is 1,000"
    ) as refusal:
        check_multiply_adds(1001, 1000)
    assert refusal.value.path == "/training/epochs"
