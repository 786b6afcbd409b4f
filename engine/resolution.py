"""Resolution: what a training spec leaves open is decided from the dataset's profile.

All that can be known before training is refused here, with a pointer into the spec.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.data.profiling import ColumnProfile
from engine.data.table import NUMERIC, nearest
from engine.errors import SpecError
from engine.network import parameter_count
from engine.spec import (
    DenseLayer,
    LossName,
    NetworkSpec,
    ResolvedSpec,
    Task,
    TrainingSpec,
    Validation,
)

MAX_INTEGER_CLASSES = 20
"""An integer target with more distinct values is taken for a quantity."""

MIN_ROWS_FOR_VALIDATION = 50
AUTO_NETWORK = NetworkSpec(layers=[DenseLayer(units=128), DenseLayer(units=128)])


def resolve(
    spec: TrainingSpec, columns: Sequence[ColumnProfile], rows: int, parameter_budget: int
) -> ResolvedSpec:
    """Return ``spec`` with everything decided.

    Parameters
    ----------
    spec : TrainingSpec
    columns : sequence of ColumnProfile
        Of the dataset.
    rows : int
        Of the dataset.
    parameter_budget : int
        Weights and biases that the network may have.

    Raises
    ------
    SpecError
        The spec and the dataset do not fit; the path points into the spec.
    """
    profile = {column.name: column for column in columns}
    targets = _targets(spec, profile)
    features = _features(spec, profile)
    task = spec.task or _infer_task(targets)
    _check_targets(task, targets)
    network = AUTO_NETWORK if spec.network == "auto" else spec.network
    outputs = targets[0].distinct or 1 if task == "classification" else len(targets)
    _check_budget(network, features, outputs, parameter_budget)
    decided = {
        "features": [column.name for column in features],
        "task": task,
        "network": network,
        "loss": _loss(spec, task),
        "validation": _validation(spec, rows),
    }
    return ResolvedSpec.model_validate({**dict(spec), **decided})


def _targets(spec: TrainingSpec, profile: Mapping[str, ColumnProfile]) -> list[ColumnProfile]:
    several = not isinstance(spec.target, str)
    for position, name in enumerate(spec.targets):
        path = f"/target/{position}" if several else "/target"
        if name not in profile:
            raise SpecError(path, _no_column(name, profile))
        if spec.targets.count(name) > 1:
            raise SpecError(path, f"{name!r} is given twice")
        _check_present(path, profile[name])
    return [profile[name] for name in spec.targets]


def _no_column(name: str, profile: Mapping[str, ColumnProfile]) -> str:
    return f"the dataset has no column {name!r}{nearest(name, profile)}"


def _features(spec: TrainingSpec, profile: Mapping[str, ColumnProfile]) -> list[ColumnProfile]:
    names = spec.features
    if names is None:
        names = [name for name in profile if name not in spec.targets]
    if not names:
        raise SpecError("/features", "the dataset has no column beside the target")
    for position, name in enumerate(names):
        path = "/features" if spec.features is None else f"/features/{position}"
        if name not in profile:
            raise SpecError(path, _no_column(name, profile))
        if name in spec.targets:
            raise SpecError(path, f"{name!r} is the target; leave it out of the features")
        if names.count(name) > 1:
            raise SpecError(path, f"{name!r} is given twice")
        _check_feature(path, profile[name])
    return [profile[name] for name in names]


def _check_feature(path: str, column: ColumnProfile) -> None:
    if column.type in ("text", "timestamp"):
        advice = "list the other columns in `features`, or upload it as numbers or categories"
        raise SpecError(path, f"column {column.name!r} is {column.type}; {advice}")
    _check_present(path, column)


def _check_present(path: str, column: ColumnProfile) -> None:
    advice = "fill or remove these rows and upload again"
    if column.missing:
        found = f"{column.missing} missing or NaN, the first in row {column.first_missing}"
        raise SpecError(path, f"column {column.name!r} has {found}; {advice}")
    if column.non_finite:
        found = f"{column.non_finite} infinite, the first in row {column.first_non_finite}"
        raise SpecError(path, f"column {column.name!r} has {found}; {advice}")


def _infer_task(targets: Sequence[ColumnProfile]) -> Task:
    if len(targets) > 1:
        return "regression"
    target = targets[0]
    if target.type == "integer" and (target.distinct or 0) > MAX_INTEGER_CLASSES:
        return "regression"
    return "regression" if target.type == "number" else "classification"


def _check_targets(task: Task, targets: Sequence[ColumnProfile]) -> None:
    for target in targets:
        if target.type in ("tensor", "timestamp"):
            raise SpecError(
                "/target", f"column {target.name!r} is {target.type}; it cannot be predicted"
            )
        if task == "regression" and target.type not in NUMERIC:
            wanted = "regression needs numbers; ask for classification"
            raise SpecError("/task", f"column {target.name!r} is {target.type}; {wanted}")
        if task == "regression" and target.std is None:
            advice = "divide it by a large number and upload again"
            raise SpecError("/target", f"column {target.name!r} overflows when squared; {advice}")
    if task == "regression":
        return
    if len(targets) > 1:
        raise SpecError("/target", "classification has one target; several are for regression")
    if (targets[0].distinct or 0) < 2:
        only = targets[0].top[0][0] if targets[0].top else None
        reason = (
            f"column {targets[0].name!r} holds one class, {only!r}; there is nothing to tell apart"
        )
        raise SpecError("/target", reason)


def _loss(spec: TrainingSpec, task: Task) -> LossName:
    if spec.loss is None:
        return "cross_entropy" if task == "classification" else "squared_error"
    if spec.loss == "cross_entropy" and task == "regression":
        raise SpecError("/loss", "cross_entropy needs classes; squared_error is for regression")
    return spec.loss


def _validation(spec: TrainingSpec, rows: int) -> Validation:
    if spec.validation is not None:
        if spec.validation.fraction > 0 and rows < 2:
            raise SpecError("/validation/fraction", "one row cannot be divided; 0 would do")
        return spec.validation
    return Validation(fraction=0.2 if rows >= MIN_ROWS_FOR_VALIDATION else 0.0)


def _check_budget(
    network: NetworkSpec, features: Sequence[ColumnProfile], outputs: int, budget: int
) -> None:
    inputs = sum(_width(column) for column in features)
    count = parameter_count(network, inputs=inputs, outputs=outputs)
    if count > budget:
        shape = f"{inputs} inputs, {outputs} outputs"
        advice = f"the budget is {budget:,}; use fewer or smaller layers"
        raise SpecError("/network", f"{count:,} weights and biases ({shape}); {advice}")


def _width(column: ColumnProfile) -> int:
    if column.type == "category":
        levels = column.distinct or 1
        return 1 if levels <= 2 else levels
    width = 1
    for size in column.shape or []:
        width *= size
    return width
