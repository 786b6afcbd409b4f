"""Optimizers against their papers, written down letter by letter."""

from __future__ import annotations

import numpy as np
import pytest
from numpy import sqrt

from engine import spec
from engine.optimizers import CHUNK, build_optimizer

SIZES = pytest.mark.parametrize("size", [1, 7, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 5])
FEW_STEPS, MANY_STEPS = 12, 400


def steps(size):
    return FEW_STEPS if size > 100 else MANY_STEPS


def slope(theta):
    """The gradient of a valley that is steep in some directions and flat in others."""
    return theta * np.linspace(0.01, 3, theta.size) + np.sin(5 * theta) / 5


def kingma_and_ba(theta, alphas, beta1, beta2, epsilon):
    """Adam, Algorithm 1."""
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t, alpha in enumerate(alphas, start=1):
        g = slope(theta)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        theta = theta - alpha * m_hat / (sqrt(v_hat) + epsilon)
    return theta


def sutskever(theta, epsilon, mu, count, *, nesterov):
    """Equations 1-2 (classical) and 3-4 (Nesterov); of the latter, ``theta + mu * v``."""
    v = np.zeros_like(theta)
    for _ in range(count):
        v = mu * v - epsilon * slope(theta + mu * v if nesterov else theta)
        theta = theta + v
    return theta + mu * v if nesterov else theta


def ours(settings, theta, learning_rates, dtype=np.float64):
    parameters, gradient = theta.astype(dtype), np.zeros(theta.size, dtype)
    optimizer = build_optimizer(settings, parameters, gradient, np.ones_like(parameters))
    for learning_rate in learning_rates:
        gradient[:] = slope(parameters)
        optimizer.step(learning_rate, 0.0, float)
    assert optimizer.t == len(learning_rates)
    return parameters


@SIZES
@pytest.mark.parametrize(
    "settings",
    [
        spec.Adam(),
        spec.Adam(beta1=0.5, beta2=0.9, epsilon=1e-3),
        spec.Adam(beta1=0.0, beta2=0.0, epsilon=1.0),
    ],
    ids=["as published", "other betas", "no memory"],
)
def test_adam_agrees_with_algorithm_1(settings, size, rng):
    theta = rng.standard_normal(size)
    alphas = [0.01 / (1 + t) ** 0.3 for t in range(steps(size))]
    expected = kingma_and_ba(theta, alphas, settings.beta1, settings.beta2, settings.epsilon)
    np.testing.assert_allclose(ours(settings, theta, alphas), expected, rtol=1e-9, atol=1e-12)


@SIZES
@pytest.mark.parametrize("nesterov", [False, True], ids=["classical", "Nesterov"])
@pytest.mark.parametrize("mu", [0.0, 0.5, 0.99])
def test_sgd_agrees_with_its_equations(mu, nesterov, size, rng):
    theta = rng.standard_normal(size)
    settings = spec.Sgd(momentum=mu, nesterov=nesterov)
    expected = sutskever(theta, 0.01, mu, steps(size), nesterov=nesterov)
    got = ours(settings, theta, [0.01] * steps(size))
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("settings", [spec.Adam(), spec.Sgd(), spec.Sgd(nesterov=True)])
def test_single_precision_stays_near_double_precision(settings, rng):
    theta, rates = rng.standard_normal(CHUNK + 3), [0.01] * 50
    in_double = ours(settings, theta, rates)
    np.testing.assert_allclose(ours(settings, theta, rates, np.float32), in_double, atol=2e-5)


@pytest.mark.parametrize("settings", [spec.Adam(), spec.Sgd(), spec.Sgd(nesterov=True)])
def test_a_step_leaves_the_gradient_as_it_is_and_allocates_nothing_for_itself(settings, rng):
    parameters, gradient = rng.standard_normal(CHUNK + 3), rng.standard_normal(CHUNK + 3)
    optimizer = build_optimizer(settings, parameters, gradient, np.ones_like(parameters))
    moments, before = dict(optimizer.moments), gradient.copy()
    optimizer.step(0.1, 0.0, float)
    np.testing.assert_array_equal(gradient, before)
    assert all(optimizer.moments[name] is moment for name, moment in moments.items())


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (spec.Adam(), ["m", "v"]),
        (spec.Sgd(), ["velocity"]),
        (spec.Sgd(momentum=0.0), []),
    ],
)
def test_an_optimizer_names_what_it_remembers(settings, names):
    optimizer = build_optimizer(settings, *np.zeros((3, 3), np.float32))
    assert list(optimizer.moments) == names
    assert all(moment.dtype == np.float32 for moment in optimizer.moments.values())
    assert optimizer.t == 0


def test_lion_agrees_with_algorithm_2(rng):
    theta = rng.standard_normal(50)
    settings = spec.Lion(beta1=0.8, beta2=0.95, weight_decay=0.1)
    expected, m = theta.copy(), np.zeros_like(theta)
    for _ in range(60):
        g = slope(expected)
        step = np.sign(0.8 * m + 0.2 * g) + 0.1 * expected
        expected = expected - 0.01 * step
        m = 0.95 * m + 0.05 * g
    np.testing.assert_allclose(ours(settings, theta, [0.01] * 60), expected, rtol=1e-9, atol=1e-12)


def minimized(settings, theta, value, gradient_at, steps):
    """Minimize a function; return where it ends and the values on the way."""
    parameters, gradient = theta.copy(), np.zeros_like(theta)
    optimizer = build_optimizer(settings, parameters, gradient, np.ones_like(theta))

    def evaluate():
        gradient[:] = gradient_at(parameters)
        return value(parameters)

    values = []
    for _ in range(steps):
        values.append(evaluate())
        optimizer.step(settings.learning_rate, values[-1], evaluate)
    return parameters, values


def rosenbrock(x):
    return float(np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))


def rosenbrock_slope(x):
    g = np.zeros_like(x)
    g[:-1] = -400 * x[:-1] * (x[1:] - x[:-1] ** 2) - 2 * (1 - x[:-1])
    g[1:] += 200 * (x[1:] - x[:-1] ** 2)
    return g


def test_lbfgs_finds_the_end_of_a_curved_valley_and_never_climbs():
    end, values = minimized(spec.Lbfgs(), np.full(6, -1.0), rosenbrock, rosenbrock_slope, 120)
    np.testing.assert_allclose(end, 1, atol=1e-6)
    assert all(later <= earlier for earlier, later in zip(values, values[1:], strict=False))


def test_lbfgs_needs_about_a_step_a_direction_in_a_bowl(rng):
    curvature = np.linspace(0.1, 10, 8)
    start = rng.standard_normal(8)
    end, _ = minimized(
        spec.Lbfgs(),
        start,
        lambda x: float(curvature @ x**2) / 2,
        lambda x: curvature * x,
        30,
    )
    np.testing.assert_allclose(end, 0, atol=1e-6)


@pytest.mark.parametrize("plus", [False, True], ids=["iRprop-", "iRprop+"])
def test_rprop_finds_the_bottom_however_steep_the_sides(plus, rng):
    curvature = 10.0 ** np.arange(-6, 7)
    end, _ = minimized(
        spec.Rprop(plus=plus),
        rng.standard_normal(13),
        lambda x: float(curvature @ x**2),
        lambda x: 2 * curvature * x,
        200,
    )
    assert np.abs(end).max() < 1e-3


def test_irprop_plus_takes_a_step_back_where_the_sign_changed_and_the_loss_rose():
    parameters, gradient = np.array([0.0]), np.array([-1.0])
    optimizer = build_optimizer(spec.Rprop(plus=True), parameters, gradient, np.ones(1))
    optimizer.step(0.01, 1.0, float)
    assert parameters[0] == pytest.approx(0.01)
    gradient[0] = 1.0
    optimizer.step(0.01, 2.0, float)
    assert parameters[0] == pytest.approx(0.0)
    assert optimizer.moments["size"][0] == pytest.approx(0.005)
