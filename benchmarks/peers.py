"""The peers of `benchmarks.engine`, each at its best: the same network, data and order of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from engine import spec
from engine.arrays import Labels, Matrix, Shape, Tensor


@dataclass(frozen=True)
class Workload:
    """What is trained, and what every contender starts from.

    Parameters
    ----------
    layers : list of spec.Layer
        The hidden layers; all activations are ReLU, but those of recurrent layers.
    shape : Shape
        Of one example; of a sequence its steps, and the numbers of one.
    x : Matrix of shape (rows, inputs)
    y : Matrix of shape (rows, outputs) or Labels of shape (rows,)
    outputs, batch_size : int
    optimizer : spec.Adam or spec.Sgd
    weights : mapping of str to Tensor
        What the network begins with: ``layers.0.weight`` and so on, first to last.
    order : callable
        From an epoch, counted from 0, to the order of its rows.
    """

    layers: list[spec.Layer]
    shape: Shape
    x: Matrix
    y: Matrix | Labels
    outputs: int
    batch_size: int
    optimizer: spec.Adam | spec.Sgd
    weights: Mapping[str, Tensor]
    order: Callable[[int], Labels]

    @property
    def classifies(self) -> bool:
        """Whether it has classes; else it has numbers."""
        return self.y.dtype.kind == "i"

    @property
    def has_images(self) -> bool:
        """Whether it has layers that look at images."""
        return len(self.shape) == 3

    @property
    def has_sequences(self) -> bool:
        """Whether it has layers that read sequences."""
        return len(self.shape) == 2

    def tensors(self) -> list[Mapping[str, Tensor]]:
        """Return the tensors by name of every layer that has some, first to last."""
        found: dict[str, dict[str, Tensor]] = {}
        for name, tensor in self.weights.items():
            layer, kind = name.rsplit(".", 1)
            found.setdefault(layer, {})[kind] = tensor
        return list(found.values())


class Contender(Protocol):
    """A network of one of the peers, or ours."""

    def epoch(self, number: int) -> float:
        """Train for an epoch; return the mean loss, each batch's before its update."""

    def predict(self, rows: Matrix) -> Callable[[], Any]:
        """Return what predicts these rows, which it may have in a form of its own."""


def torch_contenders(workload: Workload) -> dict[str, Contender]:
    """Return PyTorch with each form of its optimizer, and compiled."""
    return {
        "torch eager": Torch(workload),
        "torch foreach": Torch(workload, foreach=True),
        "torch fused": Torch(workload, fused=True),
        "torch compile": Torch(workload, compiles=True, fused=True),
    }


class Torch:
    """PyTorch. An epoch's rows are gathered at once, and its losses are read at its end.

    Parameters
    ----------
    workload : Workload
    compiles : bool
        Whether forward and loss, and so the way back, go through ``torch.compile``.
    optimizer : bool
        Options of the optimizer: ``foreach`` or ``fused``.
    """

    def __init__(self, workload: Workload, *, compiles: bool = False, **optimizer: bool) -> None:
        import torch

        self.torch, self.workload = torch, workload
        self.x = torch.from_numpy(workload.x.reshape(-1, *workload.shape))
        self.y = torch.from_numpy(workload.y)
        self.network = torch.nn.Sequential(*self._layers())
        settings = workload.optimizer
        rate = settings.learning_rate
        if isinstance(settings, spec.Adam):
            self.optimizer: Any = torch.optim.Adam(self.network.parameters(), rate, **optimizer)
        else:
            mu = settings.momentum
            self.optimizer = torch.optim.SGD(self.network.parameters(), rate, mu, **optimizer)
        measure = torch.nn.CrossEntropyLoss() if workload.classifies else torch.nn.MSELoss()
        self.loss = lambda x, y: measure(self.network(x), y)
        self.answer = self._answer
        if compiles:
            torch.compiler.reset()  # it gives up on code that it has compiled for many networks
            self.loss, self.answer = torch.compile(self.loss), torch.compile(self.answer)

    def _layers(self) -> list[Any]:
        nn, made, tensors = self.torch.nn, [], iter(self.workload.tensors())
        for layer in self.workload.layers:
            if isinstance(layer, spec.MaxPool2dLayer):
                made += [nn.MaxPool2d(layer.window)]
            elif isinstance(layer, spec.FlattenLayer):
                made += [nn.Flatten()]
            elif isinstance(layer, spec.RecurrentLayer):
                made += [self._recurrent(**next(tensors))]
            else:
                made += [self._with_weights(layer, **next(tensors)), nn.ReLU()]
        return [*made, self._with_weights(None, **next(tensors))]

    def _with_weights(self, layer: Any, weight: Tensor, bias: Tensor) -> Any:
        """Return a layer that begins with the same weights."""
        nn, (n_out, n_in) = self.torch.nn, weight.shape
        made = nn.Linear(n_in, n_out)
        if isinstance(layer, spec.Conv2dLayer):
            channels = n_in // layer.kernel**2
            made = nn.Conv2d(channels, n_out, layer.kernel, padding=layer.padding)
        with self.torch.no_grad():
            for mine, first in ((made.weight, weight), (made.bias, bias)):
                mine[:] = self.torch.from_numpy(first.copy()).reshape(mine.shape)
        return made

    def _recurrent(self, weight: Tensor, recurrent: Tensor, **biases: Tensor) -> Any:
        """Return what begins with the same weights, and answers the last state.

        It has two biases a gate. The second stays 0 where one does what the other does.
        """
        torch, (gates, units, inputs) = self.torch, weight.shape
        kinds = {1: torch.nn.RNN, 3: torch.nn.GRU, 4: torch.nn.LSTM}
        order = [2, 1, 3, 0] if gates == 4 else list(range(gates))

        class LastState(torch.nn.Module):  # type: ignore[misc, name-defined] - torch may be absent
            def __init__(self) -> None:
                super().__init__()
                self.inner = kinds[gates](inputs, units, batch_first=True)

            def forward(self, x: Any) -> Any:
                return self.inner(x)[0][:, -1]

        made = LastState()
        own = made.inner
        with torch.no_grad():
            for mine, first in (
                (own.weight_ih_l0, weight),
                (own.weight_hh_l0, recurrent),
                (own.bias_ih_l0, biases["bias"]),
            ):
                mine[:] = torch.from_numpy(first[order].copy()).reshape(mine.shape)
            own.bias_hh_l0.zero_()
        own.bias_hh_l0.requires_grad_("recurrent_bias" in biases)
        return made

    def epoch(self, number: int) -> float:
        """Train for an epoch; return the mean loss."""
        order, size = self.torch.from_numpy(self.workload.order(number)), self.workload.batch_size
        losses = []
        for x, y in zip(self.x[order].split(size), self.y[order].split(size), strict=True):
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.loss(x, y)
            loss.backward()
            self.optimizer.step()
            losses.append(loss.detach())
        return float(self.torch.stack(losses).mean())

    def _answer(self, x: Any) -> Any:
        logits = self.network(x)
        return logits.softmax(1) if self.workload.classifies else logits

    def predict(self, rows: Matrix) -> Callable[[], Any]:
        """Return what predicts these rows."""
        x = self.torch.from_numpy(rows.reshape(-1, *self.workload.shape))

        def run() -> Any:
            with self.torch.inference_mode():
                return self.answer(x)

        return run


class ScikitLearn:
    """scikit-learn: ``partial_fit`` of an epoch's rows, which it takes batch by batch.

    Parameters
    ----------
    workload : Workload
    """

    def __init__(self, workload: Workload) -> None:
        from sklearn.neural_network import MLPClassifier, MLPRegressor

        settings, self.workload = workload.optimizer, workload
        self.y = workload.y if workload.classifies else workload.y.ravel()
        momentum = {"momentum": settings.momentum} if isinstance(settings, spec.Sgd) else {}
        self.network: Any = (MLPClassifier if workload.classifies else MLPRegressor)(
            hidden_layer_sizes=[getattr(layer, "units", 0) for layer in workload.layers],
            solver=settings.type,
            alpha=0,
            batch_size=workload.batch_size,
            learning_rate_init=settings.learning_rate,
            nesterovs_momentum=False,
            shuffle=False,
            **momentum,
        )
        # It makes its arrays from the first rows; then it is handed the weights.
        self._fit(np.arange(len(workload.x)))
        for mine, bias, first in zip(
            self.network.coefs_, self.network.intercepts_, workload.tensors(), strict=True
        ):
            mine[:], bias[:] = first["weight"].T, first["bias"]
        del self.network._optimizer

    def _fit(self, order: Labels) -> None:
        classes = {"classes": np.arange(self.workload.outputs)} if self.workload.classifies else {}
        self.network.partial_fit(self.workload.x[order], self.y[order], **classes)

    def epoch(self, number: int) -> float:
        """Train for an epoch; return the mean loss, which for numbers it halves."""
        self._fit(self.workload.order(number))
        return float(self.network.loss_) * (1 if self.workload.classifies else 2)

    def predict(self, rows: Matrix) -> Callable[[], Any]:
        """Return what predicts these rows."""
        predict = "predict_proba" if self.workload.classifies else "predict"
        return lambda: getattr(self.network, predict)(rows)


class Jax:
    """JAX, compiled: a step at a time, or an epoch at a time by ``lax.scan``.

    Parameters
    ----------
    workload : Workload
    scans : bool
    """

    def __init__(self, workload: Workload, *, scans: bool) -> None:
        import jax

        self.jax, self.workload, self.scans = jax, workload, scans
        self.x, self.y = self._images(workload.x), jax.numpy.asarray(workload.y)
        parameters = [
            {name: jax.numpy.asarray(self._kernel(name, t)) for name, t in tensors.items()}
            for tensors in workload.tensors()
        ]
        m, v = (jax.tree.map(jax.numpy.zeros_like, parameters) for _ in range(2))
        self.state: Any = (parameters, m, v, jax.numpy.zeros(()))
        self.run = jax.jit(self._epoch if scans else self._step, donate_argnums=0)
        self.answer = jax.jit(self._answer)

    def _images(self, rows: Matrix) -> Any:
        """Return rows as JAX likes them: images with their channels last."""
        x = self.jax.numpy.asarray(rows.reshape(-1, *self.workload.shape))
        return x.transpose(0, 2, 3, 1) if self.workload.has_images else x

    def _kernel(self, kind: str, weight: Tensor) -> Tensor:
        """Return a weight as (in, out), of all gates, or a filter as (height, width, in, out)."""
        if kind not in ("weight", "recurrent"):
            return weight.ravel()
        if weight.ndim == 3:
            return np.ascontiguousarray(weight.reshape(-1, weight.shape[2]).T)
        for layer in self.workload.layers:
            if isinstance(layer, spec.Conv2dLayer) and len(weight) == layer.filters:
                filters = weight.reshape(layer.filters, -1, layer.kernel, layer.kernel)
                return filters.transpose(2, 3, 1, 0)
        return np.ascontiguousarray(weight.T)

    def _forward(self, parameters: Any, x: Any) -> Any:
        lax, nn, learnt = self.jax.lax, self.jax.nn, iter(parameters)
        for layer in self.workload.layers:
            if isinstance(layer, spec.Conv2dLayer):
                own, padding = next(learnt), [(layer.padding, layer.padding)] * 2
                kernel, last = own["weight"], ("NHWC", "HWIO", "NHWC")
                z = lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=last)
                x = nn.relu(z + own["bias"])
            elif isinstance(layer, spec.MaxPool2dLayer):
                window = (1, layer.window, layer.window, 1)
                x = lax.reduce_window(x, -np.inf, lax.max, window, window, "VALID")
            elif isinstance(layer, spec.FlattenLayer):
                x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
            elif isinstance(layer, spec.RecurrentLayer):
                x = self._last_state(layer, next(learnt), x)
            else:
                own = next(learnt)
                x = nn.relu(x @ own["weight"] + own["bias"])
        own = next(learnt)
        return x @ own["weight"] + own["bias"]

    def _last_state(self, layer: spec.RecurrentLayer, own: Any, x: Any) -> Any:
        """Return the last state, the products with the inputs of all steps made before."""
        nn, jnp = self.jax.nn, self.jax.numpy
        fed = x.swapaxes(0, 1) @ own["weight"] + own["bias"]
        start = jnp.zeros((len(x), layer.units))

        def rnn(h: Any, z: Any) -> Any:
            h = jnp.tanh(z + h @ own["recurrent"])
            return h, None

        def gru(h: Any, z: Any) -> Any:
            r, u, n = jnp.split(z, 3, axis=1)
            on_r, on_u, on_n = jnp.split(h @ own["recurrent"], 3, axis=1)
            candidate = jnp.tanh(n + nn.sigmoid(r + on_r) * (on_n + own["recurrent_bias"]))
            return candidate + nn.sigmoid(u + on_u) * (h - candidate), None

        def lstm(state: Any, z: Any) -> Any:
            h, c = state
            o, f, i, g = jnp.split(z + h @ own["recurrent"], 4, axis=1)
            c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
            return (nn.sigmoid(o) * jnp.tanh(c), c), None

        if isinstance(layer, spec.LstmLayer):
            return self.jax.lax.scan(lstm, (start, start), fed)[0][0]
        step = rnn if isinstance(layer, spec.RnnLayer) else gru
        return self.jax.lax.scan(step, start, fed)[0]

    def _loss(self, parameters: Any, x: Any, y: Any) -> Any:
        jnp, z = self.jax.numpy, self._forward(parameters, x)
        if self.workload.classifies:
            return -self.jax.nn.log_softmax(z)[jnp.arange(len(y)), y].mean()
        return jnp.square(z - y).mean()

    def _step(self, state: Any, rows: Any) -> tuple[Any, Any]:
        settings, tree, jnp = self.workload.optimizer, self.jax.tree.map, self.jax.numpy
        parameters, m, v, t = state
        loss, g = self.jax.value_and_grad(self._loss)(parameters, self.x[rows], self.y[rows])
        rate, t = settings.learning_rate, t + 1
        if isinstance(settings, spec.Sgd):
            m = tree(lambda m, g: settings.momentum * m + g, m, g)
            parameters = tree(lambda p, m: p - rate * m, parameters, m)
        else:
            beta1, beta2 = settings.beta1, settings.beta2
            m = tree(lambda m, g: beta1 * m + (1 - beta1) * g, m, g)
            v = tree(lambda v, g: beta2 * v + (1 - beta2) * g * g, v, g)
            c1, c2 = rate / (1 - beta1**t), 1 / (1 - beta2**t)
            parameters = tree(
                lambda p, m, v: p - c1 * m / (jnp.sqrt(c2 * v) + settings.epsilon), parameters, m, v
            )
        return (parameters, m, v, t), loss

    def _epoch(self, state: Any, batches: Any) -> tuple[Any, Any]:
        return self.jax.lax.scan(self._step, state, batches)

    def epoch(self, number: int) -> float:
        """Train for an epoch; return the mean loss."""
        batches = self.workload.order(number).reshape(-1, self.workload.batch_size)
        if self.scans:
            self.state, losses = self.run(self.state, batches)
            return float(losses.mean())
        losses = []
        for rows in batches:
            self.state, loss = self.run(self.state, rows)
            losses.append(loss)
        return float(np.mean(self.jax.device_get(losses)))

    def _answer(self, parameters: Any, x: Any) -> Any:
        z = self._forward(parameters, x)
        return self.jax.nn.softmax(z) if self.workload.classifies else z

    def predict(self, rows: Matrix) -> Callable[[], Any]:
        """Return what predicts these rows."""
        x = self._images(rows)
        return lambda: self.answer(self.state[0], x).block_until_ready()
