"""The classics: their data are those of 1986, and the engine learns them as it should."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from engine.gradcheck import slope_error
from examples.classics import families, tasks
from examples.classics.experiments import (
    ENCODER,
    EXCLUSIVE_OR,
    EXPERIMENTS,
    SLOWER_SYMMETRY,
    XOR,
    Expected,
    Rates,
)
from examples.classics.findings import SHARP, are_as, to_hidden, unequal
from examples.classics.nets import NOBODY, direct, layered, shared_field, two_codes
from examples.classics.page import BEGIN, END, Figures, figures, rewritten
from examples.classics.page import row as page_row
from examples.classics.runs import Lesson, Run, cases_of, run, train

NETS = {
    "layered": (partial(layered, (3, 4, 2)), 3, 2),
    "direct": (direct, 2, 1),
    "shared_field": (shared_field, 49, 1),
    "two_codes": (two_codes, 36, 24),
}
"""How to build it, and how many inputs and outputs it has."""

COPIES, CASES = 3, 5


@pytest.fixture(params=NETS.values(), ids=NETS.keys())
def kind(request):
    return request.param


@pytest.fixture
def build(kind):
    return kind[0]


@pytest.fixture
def net(build):
    net = build(COPIES)
    for copy in range(COPIES):
        net.draw(copy, 1.0, np.random.default_rng(copy))
    return net


@pytest.fixture
def task(kind):
    _, inputs, outputs = kind
    rng = np.random.default_rng(7)
    return tasks.exact(rng.random((CASES, inputs)), rng.random((CASES, outputs)))


def test_the_exclusive_or_is_parity_of_two_bits():
    assert XOR.low[:, 0].tolist() == [0, 1, 1, 0]


def test_parity_of_four_bits_is_odd_for_half_of_the_patterns():
    task = tasks.parity(4)
    assert task.inputs.shape == (16, 4)
    assert task.low.sum() == 8


def test_eight_of_64_patterns_are_palindromes():
    task = tasks.symmetry()
    palindromes = task.inputs[task.low[:, 0] == 1]
    assert (len(task.inputs), len(palindromes)) == (64, 8)
    assert [0, 1, 1, 1, 1, 0] in palindromes.tolist()


def test_addition_adds():
    task = tasks.addition()
    for (a, b, c, d), total in zip(task.inputs, task.low, strict=True):
        assert (2 * a + b) + (2 * c + d) == total @ [4, 2, 1]


def test_negation_turns_three_bits_over_where_the_first_is_1():
    task = tasks.negation()
    answers = {tuple(x): t.tolist() for x, t in zip(task.inputs, task.low, strict=True)}
    assert answers[0, 1, 0, 1] == [1, 0, 1]
    assert answers[1, 1, 0, 1] == [0, 1, 0]


def test_t_and_c_have_five_squares_in_four_different_rotations():
    planes = tasks.t_c().inputs.reshape(8, 7, 7)
    assert (planes.sum(axis=(1, 2)) == 5).all()
    assert len(np.unique(planes, axis=0)) == 8
    for first in (0, 4):
        for turns in range(4):
            np.testing.assert_array_equal(planes[first + turns], np.rot90(planes[first], turns))


def test_the_families_have_24_people_12_relations_and_104_questions():
    assert len(set(families.PEOPLE)) == 24
    assert len(set(families.RELATIONS)) == 12
    assert len(families.ANSWERS) == 104
    assert families.TREES.inputs.shape == (104, 36)
    assert families.TREES.low.shape == (104, 24)


def test_colin_has_two_aunts_of_whom_one_married_in():
    assert families.ANSWERS["Colin", "aunt"] == {"Jennifer", "Margaret"}
    assert families.ANSWERS["Alfonso", "uncle"] == {"Emilio", "Tomaso"}


def test_nobody_is_related_to_the_other_family():
    english = set(families.ENGLISH)
    for (person, _), answer in families.ANSWERS.items():
        assert {person, *answer} <= english or not {person, *answer} & english


def test_what_is_held_out_has_no_wrong_answer():
    task = families.all_but_some(np.random.default_rng(3))
    free = ((task.low == 0) & (task.high == 1)).all(axis=1)
    assert sorted(np.flatnonzero(free)) == sorted(families.held_out(np.random.default_rng(3)))


def test_a_copy_computes_what_it_would_alone(net, build, task):
    lesson = Lesson(net.network, CASES)
    lesson.ask(cases_of(net, [task] * COPIES))
    for copy, outputs in enumerate(np.split(lesson.outputs, COPIES)):
        alone = build(1)
        alone.put(0, net.weights(copy))
        single = Lesson(alone.network, CASES)
        single.ask(cases_of(alone, [task]))
        np.testing.assert_allclose(single.outputs, outputs, rtol=1e-12)


def test_what_is_nobodys_does_not_learn(net, task):
    before = {name: tensor.copy() for name, tensor in net.network.tensors().items()}
    sweeps = train(net, [task] * COPIES, ENCODER[0])
    next(sweeps), next(sweeps)
    for name, tensor in net.network.tensors().items():
        np.testing.assert_array_equal(tensor == before[name], net.owners[name] == NOBODY)


def test_the_output_of_a_net_with_direct_links_sees_both_inputs():
    net = direct(1)
    assert [net.weights(0)[name].size for name in net.owners] == [2, 1, 0, 3, 1]


def test_a_person_and_a_relation_are_coded_apart():
    net = two_codes(1)
    assert net.weights(0)["layers.0.weight"].size == 6 * 24 + 6 * 12


def test_the_gradient_is_that_of_half_the_squared_error_summed(net, task):
    lesson, cases = Lesson(net.network, CASES), cases_of(net, [task] * COPIES)
    lesson.teach(cases)
    gradient = net.network.gradient * lesson.learning_rate(1.0)

    def error(point):
        net.network.parameters[:] = point
        return float((lesson.ask(cases) ** 2).sum()) / 2

    start = net.network.parameters.copy()
    assert slope_error(error, start, gradient, np.random.default_rng(0)) < 1e-6


def test_a_step_goes_on_when_the_rates_change(net, task):
    experiment = replace(ENCODER[0], rates={0: Rates(0.1, 0.5), 1: Rates(0.2, 0.9)})
    sweeps = train(net, [task] * COPIES, experiment)
    points = []
    for _ in range(3):
        next(sweeps)
        points.append(net.network.parameters.copy())
    gradient = net.network.gradient * net.learns() * Lesson(net.network, CASES).learning_rate(0.2)
    np.testing.assert_allclose(
        points[2] - points[1], 0.9 * (points[1] - points[0]) - gradient, atol=1e-12
    )


def test_an_output_beyond_its_target_is_no_error_where_that_is_allowed():
    net, task = (
        layered((1, 1), 1),
        tasks.Task(np.ones((1, 1)), np.array([[0.2]]), np.array([[0.8]])),
    )
    lesson = Lesson(net.network, 1)
    lesson.teach(cases_of(net, [task]))
    assert lesson.outputs[0, 0] == 0.5
    assert not net.network.gradient.any()


@pytest.mark.parametrize("experiment", [EXCLUSIVE_OR[0], EXCLUSIVE_OR[3], ENCODER[2]])
def test_most_seeds_are_solved(experiment):
    runs = run(replace(experiment, limit=3000), range(12))
    assert sum(one.sweeps is not None for one in runs) >= 9


def test_a_seed_does_not_depend_on_its_neighbours():
    together, apart = run(ENCODER[2], range(6)), run(ENCODER[2], [4])
    assert together[4].sweeps == apart[0].sweeps


def test_a_seed_that_is_given_up_is_not_solved():
    (given_up,) = run(replace(ENCODER[2], limit=1), [0])
    assert given_up.sweeps is None


def test_a_net_that_tells_palindromes_has_mirrored_opposite_weights():
    for one in run(SLOWER_SYMMETRY, range(6)):
        assert one.sweeps is not None
        assert unequal(to_hidden(one)) < 0.02


def test_the_weights_of_a_clear_symmetry_net_are_as_1_to_2_to_4_or_as_2_to_3_to_4():
    weights = [to_hidden(one) for one in run(replace(SLOWER_SYMMETRY, tolerance=SHARP), range(6))]
    doubling = [are_as(w, (1, 2, 4)) for w in weights]
    assert sum(doubling) >= 3
    assert all(one or are_as(w, (2, 3, 4)) for one, w in zip(doubling, weights, strict=True))


def test_the_row_of_an_experiment_says_whether_it_agrees():
    runs = [Run(seed, sweeps, {}) for seed, sweeps in enumerate([60, 70, None])]
    assert figures(runs) == Figures(2 / 3, 65, 61)
    good, bad = (replace(ENCODER[2], expected=Expected(share, 67)) for share in (0.7, 1.0))
    assert page_row(good, runs)[-4:] == ("67%", "65", "61", "✓")
    assert page_row(bad, runs)[-1] == "✗"


def test_only_the_figures_of_the_page_are_rewritten():
    page = f"before {BEGIN}old\n{END} after"
    assert rewritten(page, ["new\n"]) == f"before {BEGIN}\nnew\n\n{END} after"


def test_the_page_has_a_row_for_every_experiment():
    text = (Path(__file__).parents[2] / "docs" / "classics.md").read_text()
    for experiment in EXPERIMENTS:
        assert " | ".join(page_row(experiment, [])[:7]) in text
