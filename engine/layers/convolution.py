"""Convolution and pooling over images of shape (channels, height, width).

The batch is the innermost dimension of every array, so that patches, pooling
and what follows them run over contiguous memory and nothing is transposed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from engine import spec
from engine.arrays import Matrix, Shape, Tensor, least_columns
from engine.initializers import initialize
from engine.layers.layer import Layer, Tensors
from engine.wires import Bound, Step, Wire, Workspace, nothing


def output_size(size: int, window: int, stride: int, padding: int) -> int:
    """Return how many windows fit side by side; 0 or less when none does."""
    return (size + 2 * padding - window) // stride + 1


class Conv2d(Layer):
    """Each filter slides over the image: a product with every patch of it (LeCun et al. 1989).

    As is usual, the filter is not flipped: it is a cross-correlation. The
    patches are laid out as columns, with a row of ones for the bias below them.

    Parameters
    ----------
    settings : spec.Conv2dLayer
    input_shape : Shape
        Channels, height and width.
    """

    def __init__(self, settings: spec.Conv2dLayer, input_shape: Shape) -> None:
        channels, height, width = input_shape
        kernel, stride, padding = settings.kernel, settings.stride, settings.padding
        self.out = tuple(output_size(size, kernel, stride, padding) for size in (height, width))
        super().__init__(input_shape, (settings.filters, *self.out))
        self.settings = settings
        self.patch = channels * kernel * kernel
        self.parameter_shapes = {"weight": (settings.filters, self.patch + settings.bias)}

    @property
    def multiply_adds(self) -> int:
        """One for every weight, at every place."""
        return self.patch * self.units

    @property
    def least_batch(self) -> int:
        """From how many examples on the products for a row of the output are large enough."""
        inner = self.patch + self.settings.kernel * self.settings.bias
        columns = least_columns(self.settings.filters, inner)
        return columns if self.settings.filters == 1 else -(-columns // self.out[1])

    def initialize(self, rng: np.random.Generator) -> None:
        """Draw the weights as suits the activation; biases start at 0."""
        weight = self.parameters["weight"][:, : self.patch]
        initialize(weight, self.settings.initializer, self.settings.activation, rng)

    def split(self, tensors: Tensors) -> Tensors:
        """Return weights and biases apart."""
        weight = tensors["weight"]
        parts = {"weight": weight[:, : self.patch]}
        return {**parts, "bias": weight[:, -1]} if self.settings.bias else parts

    def bind(self, x: Wire, workspace: Workspace) -> Bound:
        """Bind to a batch.

        The patches of one row of the output are `kernel` rows of the input, side
        by side for every place in a row of the kernel. So each row of the input
        is laid out once, as a strip, and the patches of the output's rows are
        windows of the strips, which overlap and are not copied.
        """
        if self.answers_apart(x, workspace):
            return self.among_others(x, workspace)
        by_row = self.settings.filters, self.out[0], -1
        values, settle = x.settled(workspace)
        y = workspace.wire(self.units)
        out = y.value.reshape(by_row).swapaxes(0, 1)
        strips, places = self._strips(workspace, values)
        strips[:, self.across :] = 1
        windows = self._windows(strips)
        matrix = workspace.array(windows.shape[1], self.settings.filters)
        packed, by_filter = self._packed(self.parameters["weight"], matrix), matrix.T

        def forward() -> None:
            settle()
            for place, strip in places:
                np.copyto(strip, place)
            for weight, entries in packed:
                np.copyto(entries, weight)
            np.matmul(by_filter, windows, out=out)

        if y.gradient is None:
            return Bound(y, forward, nothing)
        dy = y.gradient.reshape(by_row).swapaxes(0, 1)
        to_weight = self._to_weight(windows, dy, workspace)
        if x.gradient is None:
            return Bound(y, forward, to_weight)
        to_image = self._to_image(matrix, dy, x.gradient, workspace)

        def backward() -> None:
            to_weight()
            to_image()

        return Bound(y, forward, backward)

    def _to_weight(self, windows: Tensor, dy: Tensor, workspace: Workspace) -> Step:
        """Return the step that sums the gradient of the weights over the rows of the output."""
        shape = windows.shape[1], self.settings.filters
        d_matrix, part = workspace.array(*shape), workspace.array(*shape)
        packed = self._packed(self.gradients["weight"], d_matrix)
        rows = list(zip(windows, dy.swapaxes(1, 2), strict=True))

        def to_weight() -> None:
            d_matrix.fill(0)
            for window, d_row in rows:
                np.matmul(window, d_row, out=part)
                np.add(d_matrix, part, out=d_matrix)
            for d_weight, entries in packed:
                np.copyto(d_weight, entries)

        return to_weight

    def _to_image(self, matrix: Matrix, dy: Tensor, dx: Matrix, workspace: Workspace) -> Step:
        """Return the step that sums the gradient of the image over all patches."""
        strips, places = self._strips(workspace, dx)
        windows = self._windows(strips)
        part = workspace.array(*windows.shape[1:])
        rows = list(zip(windows, dy, strict=True))

        def to_image() -> None:
            strips.fill(0)
            for window, d_row in rows:
                np.matmul(matrix, d_row, out=part)
                np.add(window, part, out=window)
            dx.fill(0)
            for place, strip in places:
                np.add(place, strip, out=place)

        return to_image

    @property
    def across(self) -> int:
        """How many numbers of a patch are in one row of the kernel."""
        return self.input_shape[0] * self.settings.kernel

    def _strips(
        self, workspace: Workspace, values: Matrix
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Return strips, and for every place in a row of the kernel what goes where in them.

        A strip is a row of the padded image: for every channel and place, what
        lies under it from left to right, and last a row of ones for the bias.
        """
        channels, height, width = self.input_shape
        kernel, stride, padding = self.settings.kernel, self.settings.stride, self.settings.padding
        batch, columns = workspace.batch, self.out[1]
        shape = height + 2 * padding, self.across + self.settings.bias, columns * batch
        strips = workspace.array(*shape)
        inside = strips[padding : padding + height, : self.across]
        by_place = inside.reshape(height, channels, kernel, columns, batch)
        image = values.reshape(channels, height, width, batch).swapaxes(0, 1)
        places = []
        for j in range(kernel):
            first = max(0, -(-(padding - j) // stride))
            stop = min(columns, (width - 1 + padding - j) // stride + 1)
            start = first * stride + j - padding
            under = image[:, :, start : start + stride * (stop - first) : stride]
            if stop > first:
                places.append((under, by_place[:, :, j, first:stop]))
        return strips, places

    def _windows(self, strips: Tensor) -> Tensor:
        """Return, for every row of the output, all its patches, one a column."""
        height = strips.shape[1]
        rows = strips.reshape(-1, strips.shape[2])
        size = self.settings.kernel * height
        windows = sliding_window_view(rows, size, axis=0, subok=True, writeable=True)
        return windows[:: self.settings.stride * height].swapaxes(1, 2)

    def _packed(self, weight: Matrix, matrix: Matrix) -> list[tuple[Tensor, Tensor]]:
        """Return which parts of the weights, or their gradients, go where in the matrix.

        It has the order of a window. The ones are below every strip, but the bias is needed once.
        """
        filters, kernel, channels = len(weight), self.settings.kernel, self.input_shape[0]
        by_row = matrix.reshape(kernel, -1, filters)
        entries = by_row[:, : self.across].reshape(kernel, channels, kernel, filters)
        filled = weight[:, : self.patch].reshape(filters, channels, kernel, kernel)
        parts = [(filled, entries.transpose(3, 1, 0, 2))]
        return [*parts, (weight[:, -1], by_row[0, -1])] if self.settings.bias else parts


class Pool2d(Layer):
    """Each window of the image becomes one number: its largest, or its mean.

    The gradient of a largest number goes to the first place that has it.

    Parameters
    ----------
    settings : spec.MaxPool2dLayer or spec.AveragePool2dLayer
    input_shape : Shape
        Channels, height and width.
    """

    def __init__(
        self, settings: spec.MaxPool2dLayer | spec.AveragePool2dLayer, input_shape: Shape
    ) -> None:
        channels, height, width = input_shape
        self.window, self.stride = settings.window, settings.stride or settings.window
        out = (output_size(size, self.window, self.stride, 0) for size in (height, width))
        super().__init__(input_shape, (channels, *out))
        self.takes_mean = isinstance(settings, spec.AveragePool2dLayer)

    @property
    def multiply_adds(self) -> int:
        """One for every place of a window, along each axis."""
        channels, height, _ = self.input_shape
        return self.window * (channels * height * self.output_shape[2] + self.units)

    def bind(self, x: Wire, workspace: Workspace) -> Bound:
        """Bind to a batch: every row is pooled, and then every column of what comes out."""
        (channels, height, width), batch = self.input_shape, workspace.batch
        image, small = (channels, height, width, batch), (*self.output_shape, batch)
        y = workspace.wire(self.units, learns=x.gradient is not None)
        values, settle = x.settled(workspace)
        middle = workspace.array(channels, height, self.output_shape[2], batch)
        across = self._places(values.reshape(image), axis=2), middle
        down = self._places(middle, axis=1), y.value.reshape(small)

        def forward() -> None:
            settle()
            self._pool(*across)
            self._pool(*down)

        if x.gradient is None or y.gradient is None:
            return Bound(y, forward, nothing)
        dx, dy = x.gradient.reshape(image), y.gradient.reshape(small)
        d_middle = workspace.array(*middle.shape)
        d_down, d_across = self._places(d_middle, axis=1), self._places(dx, axis=2)
        spread = _spread_mean if self.takes_mean else _spread_largest
        to_middle = spread(*down, d_down, dy, workspace)
        to_image = spread(*across, d_across, d_middle, workspace)
        # Where windows lie apart, every place is written once, and what lies between stays 0.
        overlap = self.stride < self.window
        give = _add if overlap else np.copyto

        def backward() -> None:
            if overlap:
                d_middle.fill(0)
                dx.fill(0)
            to_middle(give)
            to_image(give)

        return Bound(y, forward, backward)

    def _places(self, values: Tensor, axis: int) -> list[Tensor]:
        """Return, for every place in a line of the window, what is there along an axis."""
        count, before = self.output_shape[axis], (slice(None),) * axis
        return [
            values[(*before, slice(i, i + self.stride * count, self.stride))]
            for i in range(self.window)
        ]

    def _pool(self, places: list[Tensor], out: Tensor) -> None:
        """Pool along one axis."""
        combine = np.add if self.takes_mean else np.maximum
        first, *others = places
        for place in others:
            combine(first, place, out=out)
            first = out
        if not others:
            np.copyto(out, first)
        if self.takes_mean:
            np.divide(out, out.dtype.type(self.window), out=out)


Give = Callable[[Tensor, Tensor], object]
"""Brings part of a gradient to a place."""


def _add(place: Tensor, part: Tensor) -> None:
    np.add(place, part, out=place)


def _spread_mean(
    _places: list[Tensor], _out: Tensor, d_places: list[Tensor], d_out: Tensor, workspace: Workspace
) -> Callable[[Give], None]:
    """Return what hands the gradient of a mean on: to every place its share."""
    part, share = workspace.array(*d_out.shape), workspace.scalar(1 / len(d_places))

    def spread(give: Give) -> None:
        np.multiply(d_out, share, out=part)
        for d_place in d_places:
            give(d_place, part)

    return spread


def _spread_largest(
    places: list[Tensor], out: Tensor, d_places: list[Tensor], d_out: Tensor, workspace: Workspace
) -> Callable[[Give], None]:
    """Return what hands the gradient of a largest number on: all of it to the first that has it."""
    mask = workspace.mask(*out.shape)
    part, rest = workspace.array(*out.shape), workspace.array(*out.shape)

    def spread(give: Give) -> None:
        left = d_out
        for place, d_place in zip(places[:-1], d_places, strict=False):
            np.equal(place, out, out=mask)
            np.multiply(left, mask, out=part)
            np.subtract(left, part, out=rest)
            left = rest
            give(d_place, part)
        give(d_places[-1], left)

    return spread


class Reshape(Layer):
    """The same numbers in another shape: an image from a row, or a row from an image.

    Parameters
    ----------
    input_shape, output_shape : Shape
    """

    @property
    def multiply_adds(self) -> int:
        """None: nothing is computed."""
        return 0

    def bind(self, x: Wire, workspace: Workspace) -> Bound:  # noqa: ARG002 - nothing to take
        """Bind to a batch: wires are flat, so there is nothing to do."""
        return Bound(x, nothing, nothing)
