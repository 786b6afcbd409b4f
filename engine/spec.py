"""What to train and how: the pydantic models that the API publishes and the worker obeys.

A `TrainingSpec` may leave most things open; `engine.resolution.resolve` closes
it against a dataset. Sending a resolved spec again trains the same network.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    TypeAdapter,
    ValidationInfo,
    model_serializer,
    model_validator,
)

MAX_UNITS = 2**53
MAX_LAYERS = 200
MAX_COLUMNS = 16_384
MAX_NAME_LENGTH = 200
MAX_STEPS = 100_000
MAX_HORIZON = 1000
MAX_QUANTILES = 99
PARAMETER_BUDGET = 50_000_000
"""Weights and biases that one network may have, unless the caller sets another budget."""

Task = Literal["classification", "regression"]
Precision = Literal["float32", "float64"]
Activation = Literal[
    "identity",
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "gelu",
    "silu",
    "mish",
    "softplus",
    "hard_sigmoid",
    "hard_tanh",
    "hard_swish",
]
Initializer = Literal[
    "glorot_uniform",
    "glorot_normal",
    "he_uniform",
    "he_normal",
    "lecun_uniform",
    "lecun_normal",
    "orthogonal",
    "zeros",
]

Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH)]
Features = Annotated[list[Name], Field(min_length=1, max_length=MAX_COLUMNS)]


def _json_type(value: Any) -> str:
    """Choose between the forms of a field by JSON type, so that one form says what is wrong."""
    return "string" if isinstance(value, str) else "other"


OneOrOther = Discriminator(_json_type)


class Spec(BaseModel):
    """Part of a spec: unknown fields, coerced types, NaN and infinity are refused."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class DenseLayer(Spec):
    """Every unit sees every output of the layer before: `activation(weight @ x + bias)`."""

    type: Literal["dense"] = "dense"
    units: int = Field(ge=1, le=MAX_UNITS)
    """How many units."""
    activation: Activation = "relu"
    """The function applied to each unit's sum."""
    bias: bool = True
    """Whether each unit has a weight from a unit that is always 1."""
    initializer: Initializer | None = None
    """How the first weights are drawn; as suits the activation unless given."""


class ActivationLayer(Spec):
    """An activation on its own."""

    type: Literal["activation"] = "activation"
    activation: Activation
    """The function applied to each value."""


class DropoutLayer(Spec):
    """While training, zero each value with probability `rate` and scale the others up."""

    type: Literal["dropout"] = "dropout"
    rate: float = Field(ge=0, lt=1)
    """The probability of dropping a value."""


class BatchNormLayer(Spec):
    """Each unit, or channel of an image, is normalized over the batch, then scaled and shifted."""

    type: Literal["batch_norm"] = "batch_norm"
    momentum: float = Field(default=0.1, gt=0, le=1)
    """Share of a batch in the running means that predictions use."""
    epsilon: float = Field(default=1e-5, gt=0, le=1)
    """Added to the variance."""


class LayerNormLayer(Spec):
    """The outputs for each example are normalized among themselves, then scaled and shifted."""

    type: Literal["layer_norm"] = "layer_norm"
    epsilon: float = Field(default=1e-5, gt=0, le=1)
    """Added to the variance."""


class EmbeddingLayer(Spec):
    """Each level of each category becomes a vector that is learnt. Only as the first layer.

    Over sequences it does so at every step, with the same vectors.
    """

    type: Literal["embedding"] = "embedding"
    dimensions: int = Field(default=8, ge=1, le=4096)
    """The length of a vector."""


class ReshapeLayer(Spec):
    """The outputs, in order, are taken as an image."""

    type: Literal["reshape"] = "reshape"
    shape: Annotated[
        list[Annotated[int, Field(ge=1, le=MAX_UNITS)]], Field(min_length=3, max_length=3)
    ]
    """Channels, height and width."""


class FlattenLayer(Spec):
    """An image is taken as its numbers in order."""

    type: Literal["flatten"] = "flatten"


class Conv2dLayer(Spec):
    """Each filter slides over an image: `activation(weight @ patch + bias)` at every place."""

    type: Literal["conv2d"] = "conv2d"
    filters: int = Field(ge=1, le=MAX_UNITS)
    """How many filters, which become the channels of the output."""
    kernel: int = Field(default=3, ge=1, le=1024)
    """Height and width of a filter."""
    stride: int = Field(default=1, ge=1, le=1024)
    """How far a filter moves at a time."""
    padding: int = Field(default=0, ge=0, le=1024)
    """Zeros around the image."""
    activation: Activation = "relu"
    """The function applied to each sum."""
    bias: bool = True
    """Whether each filter has a weight from a unit that is always 1."""
    initializer: Initializer | None = None
    """How the first weights are drawn; as suits the activation unless given."""


class MaxPool2dLayer(Spec):
    """Each window of an image becomes its largest number."""

    type: Literal["max_pool2d"] = "max_pool2d"
    window: int = Field(default=2, ge=1, le=1024)
    """Height and width of a window."""
    stride: int | None = Field(default=None, ge=1, le=1024)
    """How far apart windows are; side by side unless given."""


class AveragePool2dLayer(Spec):
    """Each window of an image becomes its mean."""

    type: Literal["average_pool2d"] = "average_pool2d"
    window: int = Field(default=2, ge=1, le=1024)
    """Height and width of a window."""
    stride: int | None = Field(default=None, ge=1, le=1024)
    """How far apart windows are; side by side unless given."""


Damping = Annotated[
    Annotated[float, Field(ge=0, lt=1), Tag("other")]
    | Annotated[Literal["adaptive"], Tag("string")],
    OneOrOther,
]


class EquilibriumLayer(Spec):
    """Units that see the inputs and each other, relaxed until they stay as they are.

    `v = activation(recurrent @ v + weight @ x + bias)`; no unit sees itself. Not within a block.
    """

    type: Literal["equilibrium"] = "equilibrium"
    units: int = Field(ge=1, le=MAX_UNITS)
    """How many units."""
    activation: Literal["sigmoid", "tanh"] = "sigmoid"
    """The function applied to each unit's sum."""
    bias: bool = True
    """Whether each unit has a weight from a unit that is always 1."""
    initializer: Initializer | None = None
    """How the first weights are drawn, those from each other at half the size."""
    tolerance: float | None = Field(default=None, gt=0, le=0.1)
    """How little units may still change: 1e-5 in float32 and 1e-9 in float64 unless given."""
    max_iterations: int = Field(default=200, ge=1, le=2_000)
    """How often they may change; an example that has not settled by then teaches nothing."""
    damping: Damping = "adaptive"
    """Share of the old state that is kept; `"adaptive"` for as much as each example needs."""
    neumann_terms: int | None = Field(default=None, ge=0, le=2_000)
    """Ends the adjoint's series after so many terms; it is relaxed to `tolerance` unless given."""


class RecurrentLayer(Spec):
    """Units that read a sequence step by step, and see what they were a step before."""

    type: Literal["rnn", "gru", "lstm"]
    units: int = Field(ge=1, le=MAX_UNITS)
    """How many units; with `bidirectional` so many in each direction."""
    bidirectional: bool = False
    """Whether as many units again read from the end to the beginning."""
    return_sequences: bool = False
    """Whether every step is answered, for a recurrent layer above, instead of the whole."""
    pooling: Literal["last", "mean", "max"] | None = None
    """What is made of all steps: the `last` state of each direction unless given.

    Or the `mean`, or the `max` of each unit. Padding does not count."""
    truncation: int | None = Field(default=None, ge=1, le=MAX_STEPS)
    """Through how many steps a gradient goes back at most; through all unless given."""


class RnnLayer(RecurrentLayer):
    """A recurrent layer: `h = activation(weight @ x + recurrent @ h + bias)`."""

    type: Literal["rnn"] = "rnn"
    activation: Literal["tanh", "relu"] = "tanh"
    """The function applied to each unit's sum."""


class GruLayer(RecurrentLayer):
    """Gated recurrent units, whose state is mixed from what it was and a candidate."""

    type: Literal["gru"] = "gru"


class LstmLayer(RecurrentLayer):
    """Long short-term memory: gates say what a cell forgets, takes in and shows."""

    type: Literal["lstm"] = "lstm"


BlockLayer = (
    DenseLayer
    | ActivationLayer
    | DropoutLayer
    | BatchNormLayer
    | LayerNormLayer
    | ReshapeLayer
    | FlattenLayer
    | Conv2dLayer
    | MaxPool2dLayer
    | AveragePool2dLayer
)


class ResidualLayer(Spec):
    """A block of layers, whose output is added to its input: `x + block(x)`."""

    type: Literal["residual"] = "residual"
    layers: list[Annotated[BlockLayer, Field(discriminator="type")]] = Field(
        min_length=1, max_length=MAX_LAYERS
    )
    """The block; its output has the shape of its input."""


Layer = Annotated[
    BlockLayer
    | EmbeddingLayer
    | EquilibriumLayer
    | RnnLayer
    | GruLayer
    | LstmLayer
    | ResidualLayer,
    Field(discriminator="type"),
]


class NetworkSpec(Spec):
    """The hidden layers, first to last; the service adds the output layer."""

    layers: list[Layer] = Field(max_length=MAX_LAYERS)
    """The hidden layers. An empty list trains a linear model."""


class CrossEntropy(Spec):
    """Cross-entropy after a softmax, for classes."""

    type: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target that is spread evenly over all classes."""


class BinaryCrossEntropy(Spec):
    """Cross-entropy after a sigmoid, for two classes: the network has one output."""

    type: Literal["binary_cross_entropy"] = "binary_cross_entropy"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target that is spread evenly over both classes."""


class Focal(Spec):
    """Cross-entropy that looks away from what is already right, for classes."""

    type: Literal["focal"] = "focal"
    gamma: float = Field(default=2.0, ge=0, le=20)
    """How much; 0 is cross-entropy."""


class Hinge(Spec):
    """The margin by which the true class leads, up to 1, for classes."""

    type: Literal["hinge"] = "hinge"


class SquaredError(Spec):
    """The squared difference."""

    type: Literal["squared_error"] = "squared_error"


class AbsoluteError(Spec):
    """The absolute difference: predicts a median."""

    type: Literal["absolute_error"] = "absolute_error"


class Huber(Spec):
    """Half the squared difference where it is small, growing linearly where it is large."""

    type: Literal["huber"] = "huber"
    delta: float = Field(default=1.0, gt=0, le=1e6)
    """Where small ends, in deviations of the target."""


class LogCosh(Spec):
    """The logarithm of the hyperbolic cosine of the difference: a smooth Huber loss."""

    type: Literal["log_cosh"] = "log_cosh"


QuantileLevel = Annotated[float, Field(gt=0, lt=1)]


def _rising(levels: list[float] | None) -> list[float] | None:
    """Refuse quantiles that are there twice, or in no order."""
    for before, level in pairwise(levels or ()):
        if level <= before:
            reason = "is there twice" if level == before else f"comes after {before:g}"
            raise ValueError(f"{level:g} {reason}; each must be larger than the one before")
    return levels


def _either(level: float | None, info: ValidationInfo) -> float | None:
    """Refuse one quantile beside several."""
    if level is not None and info.data.get("quantiles"):
        raise ValueError("`quantiles` are given as well; leave one of the two out")
    return level


class Quantile(Spec):
    """Predicts a quantile, or several: the bounds of an interval with what lies between."""

    type: Literal["quantile"] = "quantile"
    quantiles: Annotated[
        Annotated[list[QuantileLevel], Field(min_length=1, max_length=MAX_QUANTILES)] | None,
        AfterValidator(_rising),
    ] = None
    """Several, rising, each by an output of its own. The value is the one nearest to 0.5."""
    quantile: Annotated[QuantileLevel | None, AfterValidator(_either)] = None
    """One; 0.5, the median, unless given."""

    @model_validator(mode="before")
    @classmethod
    def _median(cls, given: Any) -> Any:
        """Take the median where nothing is said."""
        if isinstance(given, dict) and not given.keys() & {"quantiles", "quantile"}:
            return {**given, "quantile": 0.5}
        return given

    @model_serializer(mode="wrap")
    def _said(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out which of the two it is not."""
        return {name: value for name, value in serialize(self).items() if value is not None}

    @property
    def levels(self) -> tuple[float, ...]:
        """What is predicted, rising."""
        return tuple(self.quantiles or (self.quantile or 0.5,))


class Poisson(Spec):
    """For counts: the network answers the logarithm of their mean."""

    type: Literal["poisson"] = "poisson"


Loss = Annotated[
    CrossEntropy
    | BinaryCrossEntropy
    | Focal
    | Hinge
    | SquaredError
    | AbsoluteError
    | Huber
    | LogCosh
    | Quantile
    | Poisson,
    Field(discriminator="type"),
]

_ANY_LOSS: TypeAdapter[Loss] = TypeAdapter(Loss)


def loss_of(name: str) -> Loss:
    """Return the loss of that name, as it is unless more is said."""
    return _ANY_LOSS.validate_python({"type": name})


CLASS_LOSSES = (CrossEntropy, BinaryCrossEntropy, Focal, Hinge, SquaredError)
NUMBER_LOSSES = (SquaredError, AbsoluteError, Huber, LogCosh, Quantile, Poisson)


Rate = Annotated[float, Field(gt=0, le=1e6)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Tiny = Annotated[float, Field(gt=0, le=1)]


class OptimizerSpec(Spec):
    """What every optimizer can be asked for, before it looks at the gradient."""

    l1: float = Field(default=0.0, ge=0, le=1e6)
    """Adds `l1 * sign(weight)` to the gradient; biases are left alone."""
    weight_decay: float = Field(default=0.0, ge=0, le=1e6)
    """Adds `weight_decay * weight` to the gradient; AdamW and Lion shrink the weights instead."""
    clip_value: float | None = Field(default=None, gt=0, le=1e30)
    """Cuts every component of the gradient off at this size."""
    clip_norm: float | None = Field(default=None, gt=0, le=1e30)
    """Scales the gradient down to this length where it is longer."""


class Sgd(OptimizerSpec):
    """Stochastic gradient descent with classical or Nesterov momentum."""

    type: Literal["sgd"] = "sgd"
    learning_rate: Rate = 0.01
    """Step size."""
    momentum: Decay = 0.9
    """Share of the last step that is kept; 0 is plain gradient descent."""
    nesterov: bool = False
    """Whether the gradient is taken after the momentum step."""


class Adagrad(OptimizerSpec):
    """Steps shrink with the root of the sum of squared gradients."""

    type: Literal["adagrad"] = "adagrad"
    learning_rate: Rate = 0.01
    """Step size."""
    epsilon: Tiny = 1e-10
    """Added to the root."""


class RmsProp(OptimizerSpec):
    """Steps shrink with the root of the mean squared gradient of late."""

    type: Literal["rmsprop"] = "rmsprop"
    learning_rate: Rate = 0.001
    """Step size."""
    decay: Decay = 0.99
    """Decay of the mean."""
    epsilon: Tiny = 1e-8
    """Added to the root."""


class Adam(OptimizerSpec):
    """Adam: mean gradient over root mean squared gradient, corrected for the start."""

    type: Literal["adam"] = "adam"
    learning_rate: Rate = 0.001
    """Step size."""
    beta1: Decay = 0.9
    """Decay of the first moment."""
    beta2: Decay = 0.999
    """Decay of the second moment."""
    epsilon: Tiny = 1e-8
    """Added to the root of the second moment."""


class AdamW(OptimizerSpec):
    """Adam whose weight decay does not pass through the moments."""

    type: Literal["adamw"] = "adamw"
    learning_rate: Rate = 0.001
    """Step size."""
    beta1: Decay = 0.9
    """Decay of the first moment."""
    beta2: Decay = 0.999
    """Decay of the second moment."""
    epsilon: Tiny = 1e-8
    """Added to the root of the second moment."""
    weight_decay: float = Field(default=0.01, ge=0, le=1e6)
    """Share of each weight, times the learning rate, that a step takes away."""


class Nadam(OptimizerSpec):
    """Adam with Nesterov momentum."""

    type: Literal["nadam"] = "nadam"
    learning_rate: Rate = 0.002
    """Step size."""
    beta1: Decay = 0.9
    """Decay of the first moment, warmed up."""
    beta2: Decay = 0.999
    """Decay of the second moment."""
    epsilon: Tiny = 1e-8
    """Added to the root of the second moment."""
    momentum_decay: float = Field(default=0.004, ge=0, le=1)
    """How fast the momentum warms up."""


class Lion(OptimizerSpec):
    """Steps of one size in the direction of the sign of the momentum."""

    type: Literal["lion"] = "lion"
    learning_rate: Rate = 0.0001
    """Step size."""
    beta1: Decay = 0.9
    """Share of the momentum in the direction of a step."""
    beta2: Decay = 0.99
    """Decay of the momentum."""


class Rprop(OptimizerSpec):
    """Resilient backpropagation: each weight has a step size of its own. For the full batch."""

    type: Literal["rprop"] = "rprop"
    learning_rate: Rate = 0.01
    """The first step size."""
    plus: bool = False
    """Whether a step is taken back where the sign changed and the loss rose (iRprop+)."""
    shrink: float = Field(default=0.5, gt=0, lt=1)
    """A step size is multiplied by this where the gradient changed its sign."""
    grow: float = Field(default=1.2, gt=1, le=10)
    """A step size is multiplied by this where it did not."""
    smallest: float = Field(default=1e-6, gt=0, le=1)
    """The smallest step size."""
    largest: float = Field(default=50.0, gt=0, le=1e6)
    """The largest step size."""


class Lbfgs(OptimizerSpec):
    """Limited-memory BFGS with a line search. For the full batch."""

    type: Literal["lbfgs"] = "lbfgs"
    learning_rate: Rate = 1.0
    """The first step length that the line search tries."""
    history: int = Field(default=10, ge=1, le=100)
    """How many steps the curvature is told from."""


Optimizer = Annotated[
    Sgd | Adagrad | RmsProp | Adam | AdamW | Nadam | Lion | Rprop | Lbfgs,
    Field(discriminator="type"),
]


class ConstantSchedule(Spec):
    """The learning rate stays as it is."""

    type: Literal["constant"] = "constant"


class StepSchedule(Spec):
    """The learning rate falls in steps."""

    type: Literal["step"] = "step"
    epochs: int = Field(ge=1, le=1_000_000)
    """How many epochs a step lasts."""
    factor: float = Field(default=0.1, gt=0, le=1)
    """What a step multiplies the learning rate by."""


class ExponentialSchedule(Spec):
    """The learning rate falls by the same factor in every epoch."""

    type: Literal["exponential"] = "exponential"
    factor: float = Field(default=0.99, gt=0, le=1)
    """What an epoch multiplies the learning rate by."""


class CosineSchedule(Spec):
    """The learning rate falls along half a cosine, after a warm-up, once or again and again."""

    type: Literal["cosine"] = "cosine"
    final: float = Field(default=0.0, ge=0, le=1)
    """Share of the learning rate left at the end."""
    warmup: float = Field(default=0.0, ge=0, lt=1)
    """Share of the run in which the learning rate first rises in a line."""
    cycles: int = Field(default=1, ge=1, le=1000)
    """How often it falls; each time it starts again from the top."""
    growth: float = Field(default=1.0, ge=1, le=10)
    """How many times as long as the one before a cycle is."""


class OneCycleSchedule(Spec):
    """The learning rate rises along half a cosine, then falls along another."""

    type: Literal["one_cycle"] = "one_cycle"
    rise: float = Field(default=0.3, gt=0, lt=1)
    """Share of the run in which it rises."""
    initial: float = Field(default=0.04, gt=0, le=1)
    """Share of the learning rate at the beginning."""
    final: float = Field(default=4e-6, ge=0, le=1)
    """Share of the learning rate at the end."""


class PlateauSchedule(Spec):
    """The learning rate falls when the loss stops falling."""

    type: Literal["plateau"] = "plateau"
    factor: float = Field(default=0.1, gt=0, lt=1)
    """What it is multiplied by."""
    patience: int = Field(default=10, ge=0, le=1_000_000)
    """How many epochs without a better loss are borne."""
    smallest: float = Field(default=0.0, ge=0, le=1)
    """The share of the learning rate below which it does not fall."""


Schedule = Annotated[
    ConstantSchedule
    | StepSchedule
    | ExponentialSchedule
    | CosineSchedule
    | OneCycleSchedule
    | PlateauSchedule,
    Field(discriminator="type"),
]


class StopRules(Spec):
    """When to stop before the last epoch; the first rule that holds stops the run."""

    target_loss: float | None = Field(default=None, gt=0)
    """Stop once the training loss of an epoch is at or below this."""
    patience: int | None = Field(default=None, ge=1, le=1_000_000)
    """Stop after this many epochs without a better loss (of the validation rows, if any)."""
    max_seconds: float | None = Field(default=None, gt=0, le=31_536_000)
    """Stop after this many seconds of training."""


BatchSize = Annotated[
    Annotated[int, Field(ge=1, le=10_000_000), Tag("other")]
    | Annotated[Literal["full"], Tag("string")],
    OneOrOther,
]


RowPlace = Literal["memory", "disk"]


class TrainingRun(Spec):
    """How long, and in which portions."""

    epochs: int = Field(default=100, ge=1, le=1_000_000)
    """Passes over the training rows."""
    batch_size: BatchSize = 32
    """Rows an update of the weights looks at; `"full"` for all of them."""
    stop: StopRules = StopRules()
    """When to stop earlier."""
    average_decay: float | None = Field(default=None, gt=0, lt=1)
    """Decay of a moving average of the weights, which is then what is measured and kept."""
    rows: RowPlace | None = None
    """Where the rows are meanwhile: in `memory`, or on `disk`, read in blocks.

    In memory unless given, if they find room there."""
    watch: bool = False
    """Whether each point of the curve also says what goes on in every layer."""


class ValidationPart(Spec):
    """Rows kept out of training to measure on and to choose the best epoch by."""

    fraction: float = Field(ge=0, lt=1)
    """Share of the rows, drawn at random by `seed`, stratified by class; 0 for none.

    Of whole series likewise. Of windows it is the latest part."""


class ValidationDataset(Spec):
    """The rows of another dataset, to measure on and to choose the best epoch by."""

    dataset: Name
    """The id of a dataset with the same columns."""


class ValidationFolds(Spec):
    """Cross-validation: each part of the rows is measured on by a network trained on the others.

    The networks are trained side by side, epoch by epoch, and the curve is
    their mean. Then one more is trained on all rows for as many epochs as did
    best; that is the model.
    """

    folds: int = Field(ge=2, le=20)
    """How many parts, drawn at random by `seed`, stratified by class."""


def _validation_form(value: Any) -> str:
    """Choose between the forms of a validation by what is given."""
    for name, form in (("folds", ValidationFolds), ("dataset", ValidationDataset)):
        if isinstance(value, form) or (isinstance(value, dict) and name in value):
            return f"by {name}"
    return "by fraction"


Validation = Annotated[
    Annotated[ValidationPart, Tag("by fraction")]
    | Annotated[ValidationDataset, Tag("by dataset")]
    | Annotated[ValidationFolds, Tag("by folds")],
    Discriminator(_validation_form),
]


Target = Annotated[
    Annotated[Name, Tag("string")]
    | Annotated[list[Name], Field(min_length=1, max_length=1000), Tag("other")],
    OneOrOther,
]

LossName = Literal[
    "cross_entropy",
    "binary_cross_entropy",
    "focal",
    "hinge",
    "squared_error",
    "absolute_error",
    "huber",
    "log_cosh",
    "quantile",
    "poisson",
]
"""A loss as it is unless more is said."""

LossChoice = Annotated[
    Annotated[Loss, Tag("other")] | Annotated[LossName, Tag("string")], OneOrOther
]

ClassWeights = Annotated[
    Annotated[dict[str, Annotated[float, Field(ge=0, le=1e6)]], Tag("other")]
    | Annotated[Literal["balanced"], Tag("string")],
    OneOrOther,
]

Network = Annotated[
    Annotated[NetworkSpec, Tag("other")] | Annotated[Literal["auto"], Tag("string")], OneOrOther
]


ColumnKind = Literal["number", "boolean", "category", "timestamp", "tensor"]
"""What a column can be taken for."""

Scale = Literal["robust", "standard", "none"]
Encode = Literal["one_hot", "embedding", "calendar", "cyclic", "linear", "drop"]
Impute = Annotated[
    Annotated[float, Field(ge=-1e100, le=1e100), Tag("other")]
    | Annotated[Literal["median", "mean", "level", "none"], Tag("string")],
    OneOrOther,
]


class ColumnSpec(Spec):
    """What happens to a feature before a network sees it; what is left open is decided."""

    type: ColumnKind | None = None
    """What it is taken for: a number can be a `category`, and so can text."""
    impute: Impute | None = None
    """What stands for a missing value: the `median` unless given, the `mean`, or a number.

    For a category `level`: missing is a level of its own. `none` refuses missing values."""
    scale: Scale | None = None
    """How its numbers are scaled: `robust` by the quartiles, or `standard` by the deviation.

    Both squeeze what is far out. `none` leaves the numbers as they are."""
    encode: Encode | None = None
    """A category is `one_hot` or `embedding`; a timestamp `calendar`, or only `cyclic` or `linear`.

    `drop` leaves the column out."""
    note: Annotated[str, Field(max_length=1000)] | None = None
    """Why, where the service decided something that is worth a word; sent, it says nothing."""

    @model_serializer(mode="wrap")
    def _said(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is open: there is a spec for every column."""
        return {name: value for name, value in serialize(self).items() if value is not None}


Columns = Annotated[dict[Name, ColumnSpec], Field(max_length=MAX_COLUMNS)]


Strategy = Literal["direct", "recursive"]


class SequenceSpec(Spec):
    """Rows are steps of series. With a `window` their next values are forecast.

    Without one every series is an example as a whole, whose target is the same in all its rows.
    """

    order: Name
    """The column that the rows of a series are sorted by: a number, an integer or a timestamp."""
    group: Name | None = None
    """The column that says which series a row belongs to; all to one unless given."""
    window: int | None = Field(default=None, ge=1, le=MAX_STEPS)
    """How many consecutive rows a forecast is made from: their features and their targets."""
    horizon: int | None = Field(default=None, ge=1, le=MAX_HORIZON)
    """How many steps after the window are forecast; 1 unless given."""
    strategy: Strategy | None = None
    """Whether each step is forecast by outputs of its own, which is `direct`, or `recursive`.

    Then the network forecasts one step, which it is fed as the newest row for the next one.
    `direct` unless given."""
    relative: bool | None = None
    """Whether the network tells by how much a target differs from its last value in the window.

    It does unless given, but for classes and the loss `poisson`."""
    length: int | None = Field(default=None, ge=1, le=MAX_STEPS)
    """To how many steps whole series are padded; to those of the longest unless given."""
    mask: bool | None = None
    """Whether a network also sees which steps of a whole series are there.

    It does unless given, where series differ in length."""

    @property
    def steps(self) -> int:
        """How many steps an example has; once it is decided."""
        return self.window or self.length or 1

    @property
    def recurs(self) -> bool:
        """Whether a forecast is fed back for the next one."""
        return self.strategy == "recursive"

    @property
    def steps_ahead(self) -> int:
        """How many steps the network itself forecasts; once it is decided."""
        return 1 if self.recurs else self.horizon or 1

    @property
    def columns(self) -> list[str]:
        """The columns that say how rows belong together; they are no features."""
        return [self.order] if self.group is None else [self.order, self.group]


class TrainingSpec(Spec):
    """What to train on the columns of a dataset, and how."""

    target: Target
    """The column to predict; several for a regression with several targets."""
    features: Features | None = None
    """The columns to predict from; every other column unless given, but for ids."""
    columns: Columns = Field(default_factory=dict)
    """What happens to single columns before the network sees them, by name."""
    task: Task | None = None
    """Inferred from the target unless given."""
    network: Network = "auto"
    """The hidden layers, or `"auto"` to have them chosen."""
    loss: LossChoice | None = None
    """`cross_entropy` for classes and `squared_error` for numbers unless given."""
    class_weights: ClassWeights | None = None
    """How much each class counts: `"balanced"` for the inverse of how often it occurs."""
    sequence: SequenceSpec | None = None
    """That rows are steps of series, and how they follow on each other."""
    sample_weight: Name | None = None
    """A column that says how much each row counts in training; it is no feature."""
    optimizer: Optimizer = Adam()
    """How a gradient becomes a step."""
    schedule: Schedule = ConstantSchedule()
    """How the learning rate changes over the run."""
    training: TrainingRun = TrainingRun()
    """How long, and in which portions."""
    validation: Validation | None = None
    """The rows to measure on: a `fraction` of them, another `dataset`, or `folds`.

    A fifth of the rows unless given, where there are 50 or more."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Where all randomness of the run starts: split, initial weights, order of rows, dropout."""
    precision: Precision = "float32"
    """The numbers that the network computes in."""

    @property
    def column_names(self) -> list[str]:
        """The columns that training reads."""
        weight = [] if self.sample_weight is None else [self.sample_weight]
        steps = [] if self.sequence is None else self.sequence.columns
        return list(dict.fromkeys([*(self.features or []), *self.targets, *weight, *steps]))

    @property
    def forecasts(self) -> bool:
        """Whether the past of the targets is an input, and what comes next the target."""
        return self.sequence is not None and self.sequence.window is not None

    @property
    def horizon(self) -> int:
        """How many values of each target are predicted."""
        return 1 if self.sequence is None else self.sequence.horizon or 1

    @property
    def targets(self) -> list[str]:
        """The target columns as a list."""
        return [self.target] if isinstance(self.target, str) else self.target


class ResolvedSpec(TrainingSpec):
    """A training spec in which everything is decided."""

    features: Features
    task: Task
    network: NetworkSpec
    loss: Loss
    validation: Validation

    @property
    def quantiles(self) -> tuple[float, ...]:
        """The quantiles of every value that are predicted, rising; empty where it is the value."""
        return self.loss.levels if isinstance(self.loss, Quantile) else ()
