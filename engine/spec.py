"""What to train and how: the pydantic models that the API publishes and the worker obeys.

A `TrainingSpec` may leave most things open; `engine.resolution.resolve` closes
it against a dataset. Sending a resolved spec again trains the same network.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

MAX_UNITS = 2**53
MAX_LAYERS = 200
MAX_COLUMNS = 100_000
MAX_NAME_LENGTH = 200
PARAMETER_BUDGET = 50_000_000
"""Weights and biases that one network may have, unless the caller sets another budget."""

Task = Literal["classification", "regression"]
LossName = Literal["cross_entropy", "squared_error"]
Precision = Literal["float32", "float64"]
Activation = Literal["identity", "sigmoid", "tanh", "relu"]

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
    """Every unit sees every output of the layer before: ``activation(x @ weight + bias)``."""

    type: Literal["dense"] = "dense"
    units: int = Field(ge=1, le=MAX_UNITS)
    """How many units."""
    activation: Activation = "relu"
    """The function applied to each unit's sum."""
    bias: bool = True
    """Whether each unit has a weight from a unit that is always 1."""


class ActivationLayer(Spec):
    """An activation on its own."""

    type: Literal["activation"] = "activation"
    activation: Activation
    """The function applied to each value."""


class DropoutLayer(Spec):
    """While training, zero each value with probability ``rate`` and scale the others up."""

    type: Literal["dropout"] = "dropout"
    rate: float = Field(ge=0, lt=1)
    """The probability of dropping a value."""


Layer = Annotated[DenseLayer | ActivationLayer | DropoutLayer, Field(discriminator="type")]


class NetworkSpec(Spec):
    """The hidden layers, first to last; the service adds the output layer."""

    layers: list[Layer] = Field(max_length=MAX_LAYERS)
    """The hidden layers. An empty list trains a linear model."""


class Sgd(Spec):
    """Stochastic gradient descent with classical or Nesterov momentum."""

    type: Literal["sgd"] = "sgd"
    learning_rate: float = Field(default=0.01, gt=0, le=1e6)
    """Step size."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Share of the last step that is kept; 0 is plain gradient descent."""
    nesterov: bool = False
    """Whether the gradient is taken after the momentum step."""


class Adam(Spec):
    """Adam (Kingma & Ba 2015, Algorithm 1)."""

    type: Literal["adam"] = "adam"
    learning_rate: float = Field(default=0.001, gt=0, le=1e6)
    """Step size."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the first moment."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the second moment."""
    epsilon: float = Field(default=1e-8, gt=0, le=1)
    """Added to the root of the second moment."""


Optimizer = Annotated[Sgd | Adam, Field(discriminator="type")]


class ConstantSchedule(Spec):
    """The learning rate stays as it is."""

    type: Literal["constant"] = "constant"


class CosineSchedule(Spec):
    """The learning rate falls along half a cosine over the whole run."""

    type: Literal["cosine"] = "cosine"
    final: float = Field(default=0.0, ge=0, le=1)
    """Share of the learning rate left at the end."""


Schedule = Annotated[ConstantSchedule | CosineSchedule, Field(discriminator="type")]


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


class TrainingRun(Spec):
    """How long, and in which portions."""

    epochs: int = Field(default=100, ge=1, le=1_000_000)
    """Passes over the training rows."""
    batch_size: BatchSize = 32
    """Rows an update of the weights looks at; `"full"` for all of them."""
    stop: StopRules = StopRules()
    """When to stop earlier."""


class Validation(Spec):
    """The rows kept out of training to measure on and to choose the best epoch by."""

    fraction: float = Field(ge=0, lt=1)
    """Share of the rows, drawn at random by `seed`, stratified by class; 0 for none."""


Target = Annotated[
    Annotated[Name, Tag("string")]
    | Annotated[list[Name], Field(min_length=1, max_length=1000), Tag("other")],
    OneOrOther,
]

Network = Annotated[
    Annotated[NetworkSpec, Tag("other")] | Annotated[Literal["auto"], Tag("string")], OneOrOther
]


class TrainingSpec(Spec):
    """What to train on the columns of a dataset, and how."""

    target: Target
    """The column to predict; several for a regression with several targets."""
    features: Features | None = None
    """The columns to predict from; every other column unless given."""
    task: Task | None = None
    """Inferred from the target unless given."""
    network: Network = "auto"
    """The hidden layers, or `"auto"` to have them chosen."""
    loss: LossName | None = None
    """`cross_entropy` for classes and `squared_error` for numbers unless given."""
    optimizer: Optimizer = Adam()
    """How a gradient becomes a step."""
    schedule: Schedule = ConstantSchedule()
    """How the learning rate changes over the run."""
    training: TrainingRun = TrainingRun()
    """How long, and in which portions."""
    validation: Validation | None = None
    """The rows kept out of training; a fifth of them from 50 rows on unless given."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Where all randomness of the run starts: split, initial weights, order of rows, dropout."""
    precision: Precision = "float32"
    """The numbers that the network computes in."""

    @property
    def targets(self) -> list[str]:
        """The target columns as a list."""
        return [self.target] if isinstance(self.target, str) else self.target


class ResolvedSpec(TrainingSpec):
    """A training spec in which everything is decided."""

    features: Features
    task: Task
    network: NetworkSpec
    loss: LossName
    validation: Validation
