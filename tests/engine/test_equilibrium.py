"""Layers that settle: the adjoint's gradient, what it tends from, and what does not settle."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from benchmarks.settling import completion, papers_xor, xor
from engine import spec
from engine.data.batches import Examples
from engine.errors import SpecError, UnsettledError
from engine.layers.equilibrium import Equilibrium
from engine.losses import bind_loss
from engine.resolution import resolve
from engine.training import Loop, TrainingData, train
from engine.wires import Bound, Wire, Workspace
from tests.engine.beginnings import dump_state, load_state, network, start, with_ones
from tests.engine.beginnings import spec as resolved
from tests.engine.test_footprint import COLUMNS

EXACT = {"tolerance": 1e-14, "max_iterations": 1000}
RING = np.array([[0.0, 0, -4], [-4, 0, 0], [0, -4, 0]])
"""Three tanh units that each hold the next down: without a strong input they never rest."""


@dataclass
class Bed:
    """A layer with weights of its own, bound to a batch of inputs.

    ``recurrent`` is of shape (units, units), ``weight`` (units, inputs), ``x`` (inputs, batch).
    """

    recurrent: np.ndarray
    weight: np.ndarray
    x: np.ndarray
    options: dict = field(default_factory=lambda: EXACT)
    layer: Equilibrium = field(init=False)
    source: Wire = field(init=False)
    bound: Bound = field(init=False)

    def __post_init__(self):
        units, inputs = self.weight.shape
        layer = Equilibrium(spec.EquilibriumLayer(units=units, **self.options), (inputs,))
        shapes = layer.parameter_shapes.items()
        layer.parameters = {name: np.zeros(shape) for name, shape in shapes}
        layer.gradients = {name: np.zeros(shape) for name, shape in shapes}
        layer.tensors()["recurrent"][:] = self.recurrent
        layer.tensors()["weight"][:] = self.weight
        workspace = Workspace("float64", self.x.shape[1], learns=True)
        self.layer, self.source = layer, workspace.wire(inputs)
        self.source.value[:] = self.x
        self.bound = layer.bind(self.source, workspace)

    def settle(self):
        """The state that the units settle in, of shape (units, batch)."""
        self.bound.forward()
        return self.bound.output.value.copy()

    def gradients(self, e):
        """The gradients of the weights by name, where ``e`` is that at the settled state."""
        self.settle()
        self.bound.output.gradient[:] = e
        self.bound.backward()
        return {k: g.copy() for k, g in self.layer.split(self.layer.gradients).items()}

    def gradient(self, e):
        """The same as one vector."""
        return np.concatenate([g.ravel() for g in self.gradients(e).values()])


def logistic(z):
    return 1 / (1 + np.exp(-z))


@pytest.fixture
def weights(rng):
    """Of 8 logistic units with 3 inputs, for a batch of 5."""
    recurrent = rng.uniform(-2, 2, (8, 8))
    np.fill_diagonal(recurrent, 0)
    return recurrent, rng.standard_normal((8, 3)), rng.standard_normal((3, 5))


def slopes(v):
    return v * (1 - v)


def adjoint(recurrent, v, e):
    """The slope at the sums of one example: ``D (I - W^T D)^-1 e``, solved directly."""
    d = slopes(v)
    return d * np.linalg.solve(np.eye(len(v)) - recurrent.T * d, e)


@pytest.mark.parametrize("damping", ["adaptive", 0.5])
def test_the_adjoint_gradient_is_that_of_central_differences_with_refixed_points(
    damping, weights, rng
):
    recurrent, weight, x = weights
    targets = rng.uniform(size=(2, x.shape[1]))
    bed = Bed(recurrent, weight, x, EXACT | {"damping": damping})

    def errors():
        return bed.settle()[-2:] - targets

    e = np.zeros((8, x.shape[1]))
    e[-2:] = errors()
    found = bed.gradients(e)
    h = 1e-5
    for name, tensor in bed.layer.tensors().items():
        for place in np.ndindex(tensor.shape):
            if name == "recurrent" and place[0] == place[1]:
                assert found[name][place] == 0
                continue
            before, losses = tensor[place], []
            for moved in (before + h, before - h):
                tensor[place] = moved
                losses.append(0.5 * np.square(errors()).sum())
            tensor[place] = before
            assert found[name][place] == pytest.approx((losses[0] - losses[1]) / (2 * h), abs=1e-9)


def test_the_relaxed_adjoint_is_the_direct_solution(weights, rng):
    recurrent, weight, x = weights
    bed, e = Bed(recurrent, weight, x), rng.standard_normal((8, x.shape[1]))
    v, found = bed.settle(), bed.gradients(e)
    y = np.array([adjoint(recurrent, *pair) for pair in zip(v.T, e.T, strict=True)]).T
    off_diagonal = ~np.eye(8, dtype=bool)
    np.testing.assert_allclose(found["recurrent"], (y @ v.T) * off_diagonal, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found["weight"], y @ x.T, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found["bias"], y.sum(axis=1), rtol=0, atol=1e-12)
    np.testing.assert_allclose(bed.source.gradient, weight.T @ y, rtol=0, atol=1e-12)
    assert 0 < bed.bound.settling.backward_iterations < 100 * x.shape[1]


def through_time(recurrent, weight, x, e, steps):
    """The gradient of the lateral weights by Werbos (1990): all steps are kept, and gone back."""
    states = [np.zeros((len(weight), x.shape[1]))]
    for _ in range(steps):
        states.append(logistic(recurrent @ states[-1] + weight @ x))
    total, back = np.zeros_like(recurrent), e
    for before, after in zip(states[-2::-1], states[:0:-1], strict=True):
        y = slopes(after) * back
        total += y @ before.T
        back = recurrent.T @ y
    return total * ~np.eye(len(weight), dtype=bool)


def test_backpropagation_through_the_unrolled_relaxation_tends_to_it(weights, rng):
    recurrent, weight, x = weights
    e = rng.standard_normal((8, x.shape[1]))
    found = Bed(recurrent, weight, x).gradients(e)["recurrent"]
    away = {
        steps: np.linalg.norm(through_time(recurrent, weight, x, e, steps) - found)
        / np.linalg.norm(found)
        for steps in (5, 20, 120)
    }
    assert 1e-4 < away[5] < 0.5
    assert away[20] < 0.05 * away[5]
    assert away[120] < 1e-12


def test_a_layered_net_as_block_triangular_weights_learns_as_by_plain_backpropagation(rng):
    hidden, outputs, inputs, batch = 4, 2, 3, 5
    layers = [spec.DenseLayer(units=units, activation="sigmoid") for units in (hidden, outputs)]
    net = network([*layers], inputs, 1)
    first, second = net.layers["layers.0"], net.layers["layers.1"]
    recurrent, weight = np.zeros((6, 6)), np.zeros((6, inputs))
    recurrent[hidden:, :hidden] = second.tensors()["weight"]
    weight[:hidden] = first.tensors()["weight"]
    x, e = rng.standard_normal((inputs, batch)), np.zeros((6, batch))
    e[hidden:] = rng.standard_normal((outputs, batch))
    bed = Bed(recurrent, weight, x)
    biases = [first.tensors()["bias"], second.tensors()["bias"]]
    bed.layer.tensors()["bias"][:] = np.concatenate(biases)
    found = bed.gradients(e)

    bound = net.bind(Workspace("float64", batch, learns=True))
    bound.forward(with_ones(x.T))
    bound.layers["layers.1.activation"].output.gradient[:] = e[hidden:]
    for name in ("layers.1.activation", "layers.1", "layers.0.activation", "layers.0"):
        bound.layers[name].backward()
    plain = [layer.split(layer.gradients) for layer in (first, second)]
    close = {"rtol": 0, "atol": 1e-15}
    np.testing.assert_allclose(found["weight"][:hidden], plain[0]["weight"], **close)
    np.testing.assert_allclose(found["recurrent"][hidden:, :hidden], plain[1]["weight"], **close)
    np.testing.assert_allclose(found["bias"], np.r_[plain[0]["bias"], plain[1]["bias"]], **close)
    depth = 2
    settling = bed.bound.settling
    assert settling.forward_iterations == settling.backward_iterations == (depth + 1) * batch


def test_a_truncated_adjoint_points_where_the_exact_one_does_the_more_so_the_more_terms(rng):
    recurrent = rng.uniform(-1, 1, (8, 8))
    weight, x = rng.standard_normal((8, 3)), rng.standard_normal((3, 5))
    e = rng.standard_normal((8, 5))
    exact = Bed(recurrent, weight, x).gradient(e)

    def away(terms):
        bed = Bed(recurrent, weight, x, EXACT | {"neumann_terms": terms})
        g = bed.gradient(e)
        assert bed.bound.settling.backward_iterations == (terms + 1) * 5
        return 1 - g @ exact / np.linalg.norm(g) / np.linalg.norm(exact)

    found = [away(terms) for terms in (0, 1, 2, 5)]
    assert found == sorted(found, reverse=True)
    assert found[1] < 0.02
    assert found[2] < 1e-3
    assert found[3] < 1e-6


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
@pytest.mark.parametrize(("damping", "least"), [(0.9, 50), ("adaptive", 49)])
def test_symmetric_weights_settle_at_a_large_scale_with_damping(activation, damping, least):
    """Hopfield (1984), Cohen & Grossberg (1983). Plain iteration leaves many nets in a cycle."""
    settled = {"plain": 0, "damped": 0}
    for seed in range(50):
        rng = np.random.default_rng(seed)
        recurrent = rng.uniform(-4, 4, (14, 14))
        recurrent = (recurrent + recurrent.T) / 2
        weight, x = rng.standard_normal((14, 2)), rng.standard_normal((2, 8))
        options = {"activation": activation, "tolerance": 1e-8}
        for name, how in (
            ("plain", {"damping": 0.0, "max_iterations": 200}),
            ("damped", {"damping": damping, "max_iterations": 2000}),
        ):
            bed = Bed(recurrent, weight, x, options | how)
            bed.settle()
            settled[name] += bool(bed.bound.settling.settled.all())
    assert settled["damped"] >= least
    assert settled["plain"] < 35


def ring():
    """A classifier of two classes whose hidden units are the ring."""
    layer = spec.EquilibriumLayer(units=3, activation="tanh")
    net = network([layer], 3, 2)
    net.tensors()["layers.0.recurrent"][:] = RING
    net.tensors()["layers.0.weight"][:] = np.eye(3)
    net.tensors()["layers.0.bias"][:] = 0
    return net


STRONG, WEAK = [20.0, 20, 20], [0.1, 0, 0]


def test_a_pattern_that_does_not_settle_is_told_and_leaves_the_gradient_alone():
    """Not only that of its layer: no layer learns from what is no answer."""

    def gradient(rows, labels):
        net = ring()
        workspace = Workspace("float64", len(rows), learns=True)
        bound = net.bind(workspace, to_input=True)
        loss = bind_loss(spec.CrossEntropy(), "classification", bound.logits, workspace)
        bound.forward(with_ones(np.array(rows)))
        loss(np.eye(2)[:, labels], None)
        bound.backward()
        return net.gradient.copy(), bound

    alone, _ = gradient([STRONG, STRONG], [0, 0])
    found, bound = gradient([STRONG, WEAK], [0, 1])
    assert bound.settlings[0].settled.tolist() == [True, False]
    assert bound.settlings[0].forward_iterations > 200
    assert np.linalg.norm(alone) > 0.01
    np.testing.assert_allclose(found, alone / 2, rtol=1e-12, atol=1e-300)
    assert (bound.source.gradient[:, 1] == 0).all()


def test_a_batch_settles_as_its_patterns_do_one_by_one_and_again(weights, rng):
    """Every relaxation begins anew, so there is no warm start that could end elsewhere."""
    recurrent, weight, x = weights
    e = rng.standard_normal((8, x.shape[1]))
    bed = Bed(recurrent, weight, x)
    v, whole = bed.settle(), bed.gradient(e)
    assert (bed.settle() == v).all()
    beds = [Bed(recurrent, weight, x[:, n : n + 1]) for n in range(x.shape[1])]
    parts = [one.gradient(e[:, n : n + 1]) for n, one in enumerate(beds)]
    np.testing.assert_allclose(np.hstack([one.settle() for one in beds]), v, atol=1e-13)
    np.testing.assert_allclose(sum(parts), whole, atol=1e-12)
    iterations = sum(one.bound.settling.forward_iterations for one in beds)
    assert bed.bound.settling.forward_iterations == iterations


def test_no_unit_sees_itself(weights):
    recurrent, weight, x = weights
    v = Bed(recurrent, weight, x).settle()
    assert (Bed(recurrent + np.eye(8), weight, x).settle() == v).all()


def test_what_does_not_settle_is_predicted_from_its_last_state_whatever_is_beside_it():
    net = ring()
    rows = with_ones(np.array([STRONG, WEAK, WEAK]))
    predicted = net.predict(rows)
    assert np.isfinite(predicted).all()
    np.testing.assert_allclose(net.predict(rows[1:2]), predicted[1:2], rtol=1e-9)
    assert (net.predict(rows) == predicted).all()


def learning(**changes):
    """Settings and data of a training that settles."""
    layer = spec.EquilibriumLayer(units=6)
    decided = {
        "network": spec.NetworkSpec(layers=[layer]),
        "training": spec.TrainingRun(epochs=4, batch_size=8),
    }
    how = resolved(**decided | changes)
    rng = np.random.default_rng(0)
    rows = with_ones(rng.standard_normal((40, 3))).astype(how.precision)
    labels = (rows[:, 0] * rows[:, 1] > 0).astype(np.intp)
    examples = Examples(rows, labels, 2)
    return how, TrainingData(examples, examples, lambda *_: {})


def test_the_curve_tells_iterations_and_who_settled():
    how, data = learning()
    points = [p.point for p in train(start(how, inputs=3, outputs=2), data, how) if p.point]
    assert len(points) == 4
    for point in points:
        assert point.metrics["settled"] == point.metrics["validation_settled"] == 1
        assert 2 < point.metrics["forward_iterations"] < 50
        assert 2 < point.metrics["backward_iterations"] < 50


def test_a_training_left_in_the_midst_of_an_epoch_goes_on_to_the_same_bits_and_figures():
    how, data = learning()
    state = start(how, inputs=3, outputs=2)
    whole = [p.point for p in train(state, data, how) if p.point]
    other = start(how, inputs=3, outputs=2)
    loop = Loop(other, data, how)
    batches = loop.batches.epoch(np.random.default_rng(loop.order_seed()), 0)
    loop.rate = loop.learning_rate(0)
    for batch, _ in zip(batches, range(2), strict=False):
        loop.update(batch)
    again = load_state(dump_state(other), how, inputs=3, outputs=2)
    rest = [p.point for p in train(again, data, how) if p.point]
    assert (again.network.numbers == state.network.numbers).all()
    assert [p.metrics for p in rest] == [p.metrics for p in whole]


def test_a_training_in_which_nothing_settles_is_ended():
    layer = spec.EquilibriumLayer(units=6, max_iterations=2)
    how, data = learning(network=spec.NetworkSpec(layers=[layer]))
    with pytest.raises(UnsettledError, match=r"0\.0% of the examples settled .* in epoch 1$"):
        list(train(start(how, inputs=3, outputs=2), data, how))


def test_a_training_in_which_too_few_settle_for_long_is_ended():
    layer = spec.EquilibriumLayer(units=3, activation="tanh", bias=False)
    how, data = learning(
        network=spec.NetworkSpec(layers=[layer]),
        optimizer=spec.Sgd(learning_rate=1e-9),
        training=spec.TrainingRun(epochs=20),
    )
    data.training.x[:, :3] = [STRONG if n % 3 == 0 else WEAK for n in range(40)]
    state = start(how, inputs=3, outputs=2)
    tensors = state.network.tensors()
    tensors["layers.0.recurrent"][:], tensors["layers.0.weight"][:] = RING, np.eye(3)
    with pytest.raises(UnsettledError, match=r"35\.0% .* in epoch 5, and too few in 5 epochs"):
        list(train(state, data, how))


@pytest.mark.parametrize(
    ("precision", "tolerance", "advice"),
    [("float32", 1e-9, "1e-06 would do, or the precision float64"), ("float64", 1e-16, "1e-14")],
)
def test_a_tolerance_below_what_rounding_leaves_is_refused(precision, tolerance, advice):
    layers = [{"type": "equilibrium", "units": 3, "tolerance": tolerance}]
    asked = spec.TrainingSpec(target="y", network={"layers": layers}, precision=precision)
    with pytest.raises(SpecError, match=advice) as refusal:
        resolve(asked, COLUMNS, 100, spec.PARAMETER_BUDGET)
    assert refusal.value.path == "/network/layers/0/tolerance"


@pytest.mark.parametrize("problem", [xor, papers_xor])
@pytest.mark.parametrize("seed", range(2))
def test_recurrent_xor_is_learnt(problem, seed):
    assert problem(seed).succeeded


def test_hidden_units_hear_of_errors_by_the_adjoint_alone():
    assert papers_xor(0, neumann_terms=1).succeeded
    assert not papers_xor(0, neumann_terms=0).succeeded


def test_patterns_with_a_quarter_of_their_bits_erased_are_completed():
    outcome = completion(0)
    assert outcome.succeeded >= 0.99
    assert outcome.mean("settled") == 1
