"""Resolution: what a training spec leaves open is decided from the dataset's profile.

All that can be known before training is refused here, with a pointer into the spec.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from engine import spec
from engine.data import quantiles
from engine.data.choices import check_text, decide, id_note, most_inputs, path_of
from engine.data.encoding import TEXTS
from engine.data.preprocessing import input_shape
from engine.data.profiling import ColumnProfile
from engine.data.sequence_choices import (
    check_recursion,
    decide_sequence,
    most_examples,
    settle_forecast,
)
from engine.data.table import NUMERIC, nearest
from engine.errors import SpecError
from engine.network import Architecture, Inputs, uses_embedding
from engine.spec import (
    ColumnSpec,
    DenseLayer,
    EmbeddingLayer,
    NetworkSpec,
    ResolvedSpec,
    SequenceSpec,
    Task,
    TrainingSpec,
    Validation,
    ValidationDataset,
    ValidationFolds,
    ValidationPart,
)

MAX_INTEGER_CLASSES = 20
"""An integer target with more distinct values is taken for a quantity."""

MIN_ROWS_FOR_VALIDATION = 50
SMALLEST_TOLERANCE: Mapping[spec.Precision, float] = {"float32": 1e-6, "float64": 1e-14}
"""Of a relaxation."""

AUTO_NETWORK = NetworkSpec(layers=[DenseLayer(units=128), DenseLayer(units=128)])
AUTO_FORECAST = NetworkSpec(layers=[DenseLayer(units=64), DenseLayer(units=64)])
"""Of windows, which overlap: they tell less than as many rows would."""

AUTO_EMBEDDING = EmbeddingLayer()
"""Comes first in an automatic network where a category has many levels."""


def resolve(
    asked: TrainingSpec,
    columns: Sequence[ColumnProfile],
    rows: int,
    parameter_budget: int,
    validation_columns: Sequence[ColumnProfile] = (),
) -> ResolvedSpec:
    """Return ``asked`` with everything decided.

    Parameters
    ----------
    asked : TrainingSpec
    columns : sequence of ColumnProfile
        Of the dataset.
    rows : int
        Of the dataset.
    parameter_budget : int
        Weights and biases that the network may have.
    validation_columns : sequence of ColumnProfile
        Of the dataset to validate on, where the spec names one.

    Raises
    ------
    SpecError
        The spec and the dataset do not fit; the path points into the spec.
    """
    profile = {column.name: column for column in columns}
    targets = _targets(asked, profile)
    others = {column.name: column for column in validation_columns}
    sequence = decide_sequence(asked, profile, rows, others)
    _check_columns(asked, profile)
    features, choices = _features(asked, profile, rows)
    check_recursion(asked, [column.name for column in features])
    task = asked.task or _infer_task(asked, targets)
    _check_targets(task, targets)
    loss = _loss(asked, task, targets)
    sequence = settle_forecast(sequence, task, loss)
    network = _network(asked, choices)
    _check_weights(asked, profile, targets, task)
    inputs = inputs_of(features, choices, sequence)
    outputs = outputs_of(task, loss, targets, sequence)
    _check_budget(network, inputs, outputs, parameter_budget)
    examples = rows - max(target.missing for target in targets)
    if sequence is not None:
        examples = most_examples(sequence, profile, rows)
    decided = {
        "features": [column.name for column in features],
        "columns": _in_order({**asked.columns, **_left_out(targets, choices)}, profile),
        "sequence": sequence,
        "task": task,
        "network": network,
        "loss": loss,
        "training": _training(asked),
        "validation": _validation(asked, examples, sequence),
    }
    if isinstance(asked.validation, ValidationDataset):
        named = {*asked.column_names, *(column.name for column in features)}
        _check_alike([profile[name] for name in profile if name in named], validation_columns)
        _check_gaps(features, choices, validation_columns)
        for target in validation_columns:
            if target.name in asked.targets:
                _check_target("/validation/dataset", target)
    return ResolvedSpec.model_validate({**dict(asked), **decided})


def _targets(asked: TrainingSpec, profile: Mapping[str, ColumnProfile]) -> list[ColumnProfile]:
    several = not isinstance(asked.target, str)
    for position, name in enumerate(asked.targets):
        path = f"/target/{position}" if several else "/target"
        if name not in profile:
            raise SpecError(path, _no_column(name, profile))
        if asked.targets.count(name) > 1:
            raise SpecError(path, f"{name!r} is given twice")
        _check_target(path, profile[name])
    return [profile[name] for name in asked.targets]


def _check_target(path: str, target: ColumnProfile) -> None:
    if target.distinct == 0:
        found = f"no value in any of its {target.missing} rows"
        raise SpecError(path, f"column {target.name!r} has {found}; there is nothing to learn")
    _check_finite(path, target)


def _left_out(
    targets: Sequence[ColumnProfile], choices: Mapping[str, ColumnSpec]
) -> dict[str, ColumnSpec]:
    """Return the choices with what is said of targets that are missing in some rows."""
    noted = {}
    for target in targets:
        note = f"rows left out as they have no value here: {target.missing}"
        if target.name in choices:
            note = f"as a target left out in rows that have no value here: {target.missing}"
        if target.missing:
            choice = choices.get(target.name, ColumnSpec())
            noted[target.name] = choice.model_copy(update={"note": note})
    return {**choices, **noted}


def _in_order(
    columns: Mapping[str, ColumnSpec], profile: Mapping[str, ColumnProfile]
) -> dict[str, ColumnSpec]:
    """Return what is said of columns in the dataset's order, whatever order it was sent in."""
    return {name: columns[name] for name in profile if name in columns}


def _no_column(name: str, profile: Mapping[str, ColumnProfile]) -> str:
    return f"the dataset has no column {name!r}{nearest(name, profile)}"


def _check_columns(asked: TrainingSpec, profile: Mapping[str, ColumnProfile]) -> None:
    """Refuse to do something to what is no feature."""
    for name, wanted in asked.columns.items():
        if name not in profile:
            raise SpecError(path_of(name), _no_column(name, profile))
        drops, listed = wanted.encode == "drop", name in (asked.features or ())
        if drops and listed:
            raise SpecError(path_of(name, "encode"), f"{name!r} is one of the features as well")
        given = wanted.model_fields_set - {"note"}
        is_target, others = name in asked.targets, _beside(asked)
        is_feature = listed or is_target if asked.features else name not in others
        misused = is_target and (drops or not asked.forecasts)
        if given and (misused or not (is_feature or drops)):
            use = "the target" if is_target else "no feature"
            raise SpecError(path_of(name), f"{name!r} is {use}; leave it out here")


def _beside(asked: TrainingSpec) -> list[str | None]:
    """Return the columns that are neither feature nor target."""
    return [asked.sample_weight, *([] if asked.sequence is None else asked.sequence.columns)]


def _features(
    asked: TrainingSpec, profile: Mapping[str, ColumnProfile], rows: int
) -> tuple[list[ColumnProfile], dict[str, ColumnSpec]]:
    """Return the features, and what happens to them, and to what was left out as an id."""
    names, columns = _names(asked, profile, rows)
    embeds = None if asked.network == "auto" else uses_embedding(asked.network)
    for position, name in enumerate(names):
        path = "/features" if asked.features is None else f"/features/{position}"
        if name not in profile:
            raise SpecError(path, _no_column(name, profile))
        if name in asked.targets and not asked.forecasts:
            raise SpecError(path, f"{name!r} is the target; leave it out of the features")
        column, wanted = profile[name], asked.columns.get(name, ColumnSpec())
        if wanted.type is None:
            check_text(path, column, rows)
        _check_finite(path, column)
        if column.shape:
            _check_present(path, column)
        columns[name] = decide(column, wanted, rows, embeds=embeds)
    return [profile[name] for name in names], columns


def _names(
    asked: TrainingSpec, profile: Mapping[str, ColumnProfile], rows: int
) -> tuple[list[str], dict[str, ColumnSpec]]:
    """Return the names of the features, and why some columns are none.

    What is forecast is one of them, as its past is seen.
    """
    past = asked.targets if asked.forecasts else []
    if asked.features is not None:
        for position, name in enumerate(asked.features):
            if asked.features.count(name) > 1:
                raise SpecError(f"/features/{position}", f"{name!r} is given twice")
        return list(dict.fromkeys([*asked.features, *past])), {}
    taken = {*asked.targets, *_beside(asked)}
    names, ids = [], {}
    for name, column in profile.items():
        note = id_note(column, rows) if name not in asked.columns else None
        if name not in taken and note:
            ids[name] = ColumnSpec(encode="drop", note=note)
        elif name not in taken and asked.columns.get(name, ColumnSpec()).encode != "drop":
            names.append(name)
    names += past
    if not names:
        reason = "the dataset has no column beside the target"
        raise SpecError("/features", f"{reason} but ids: {_quoted(ids)}" if ids else reason)
    return names, ids


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _network(asked: TrainingSpec, columns: Mapping[str, ColumnSpec]) -> NetworkSpec:
    """Return the network, with vectors for the levels of categories that have many."""
    if asked.network != "auto":
        _check_tolerances(asked.network, asked.precision)
        return asked.network
    network = AUTO_FORECAST if asked.forecasts else AUTO_NETWORK
    if any(choice.encode == "embedding" for choice in columns.values()):
        return NetworkSpec(layers=[AUTO_EMBEDDING, *network.layers])
    return network


def _check_tolerances(network: NetworkSpec, precision: spec.Precision) -> None:
    """Refuse a tolerance that rounding alone may exceed."""
    least = SMALLEST_TOLERANCE[precision]
    for position, layer in enumerate(network.layers):
        if isinstance(layer, spec.EquilibriumLayer) and (layer.tolerance or least) < least:
            reason = f"{precision} may round by more than {layer.tolerance:g}; {least:g} would do"
            better = ", or the precision float64" if precision == "float32" else ""
            path = f"/network/layers/{position}/tolerance"
            raise SpecError(path, reason + better)


def _check_present(path: str, column: ColumnProfile) -> None:
    if column.missing:
        found = f"{column.missing} missing or NaN, the first in row {column.first_missing}"
        advice = "fill or remove these rows and upload again"
        raise SpecError(path, f"column {column.name!r} has {found}; {advice}")
    _check_finite(path, column)


def _check_finite(path: str, column: ColumnProfile) -> None:
    if column.non_finite:
        found = f"{column.non_finite} infinite, the first in row {column.first_non_finite}"
        advice = "fill or remove these rows and upload again"
        raise SpecError(path, f"column {column.name!r} has {found}; {advice}")


def _infer_task(asked: TrainingSpec, targets: Sequence[ColumnProfile]) -> Task:
    if len(targets) > 1:
        return "regression"
    target = targets[0]
    if target.type == "integer" and asked.forecasts:
        return "regression"
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
    if "distinct" in targets[0].approximate:
        found = f"{targets[0].distinct:,} values or more, too many to be classes"
        is_number = targets[0].type in NUMERIC
        advice = "ask for regression" if is_number else "join the rare ones and upload again"
        where = "/task" if is_number else "/target"
        raise SpecError(where, f"column {targets[0].name!r} holds {found}; {advice}")
    if (targets[0].distinct or 0) < 2:
        only = targets[0].top[0][0] if targets[0].top else None
        reason = (
            f"column {targets[0].name!r} holds one class, {only!r}; there is nothing to tell apart"
        )
        raise SpecError("/target", reason)


def _loss(asked: TrainingSpec, task: Task, targets: Sequence[ColumnProfile]) -> spec.Loss:
    loss = asked.loss
    if loss is None:
        return spec.CrossEntropy() if task == "classification" else spec.SquaredError()
    if isinstance(loss, str):
        loss = spec.loss_of(loss)
    fitting = spec.CLASS_LOSSES if task == "classification" else spec.NUMBER_LOSSES
    if not isinstance(loss, fitting):
        known = ", ".join(kind().type for kind in fitting)
        raise SpecError("/loss", f"{loss.type} is not for {task}; {known} are")
    if isinstance(loss, spec.BinaryCrossEntropy) and targets[0].distinct != 2:
        reason = f"{loss.type} needs two classes, {targets[0].name!r} has {targets[0].distinct}"
        raise SpecError("/loss", f"{reason}; cross_entropy would do")
    for target in targets:
        if isinstance(loss, spec.Poisson) and isinstance(target.min, float) and target.min < 0:
            reason = f"poisson needs counts, but {target.name!r} goes down to {target.min:g}"
            raise SpecError("/loss", reason)
    if isinstance(loss, spec.Quantile):
        _check_quantile_names(asked.targets, loss.levels)
    return loss


def _check_quantile_names(targets: Sequence[str], levels: Sequence[float]) -> None:
    """Refuse a target that is called as a quantile of another one is to be."""
    for name in targets:
        for taken in quantiles.names(name, levels):
            if taken in targets:
                reason = f"{taken!r} is what a quantile of {name!r} will be called"
                raise SpecError("/target", f"{reason}; leave one of the two out")


def outputs_of(
    task: Task,
    loss: spec.Loss,
    targets: Sequence[ColumnProfile],
    sequence: SequenceSpec | None,
) -> int:
    """Return how many outputs the network has."""
    if task == "regression":
        values = len(targets) * (1 if sequence is None else sequence.steps_ahead)
        return values * (len(loss.levels) if isinstance(loss, spec.Quantile) else 1)
    return 1 if isinstance(loss, spec.BinaryCrossEntropy) else targets[0].distinct or 1


def _training(asked: TrainingSpec) -> spec.TrainingRun:
    """Give the full-batch optimizers the full batch, and refuse to give them less."""
    run, optimizer = asked.training, asked.optimizer
    if run.rows == "disk" and asked.sequence is not None:
        raise SpecError("/training/rows", "series are sorted in memory; leave it out")
    if run.rows == "disk" and isinstance(asked.validation, ValidationFolds):
        reason = "cross-validation needs the rows in memory"
        raise SpecError("/training/rows", f"{reason}; validate on a `fraction` of them instead")
    if not isinstance(optimizer, spec.Rprop | spec.Lbfgs) or run.batch_size == "full":
        return run
    if "batch_size" in run.model_fields_set:
        reason = f'{optimizer.type} needs the same rows in every step; "full" would do'
        raise SpecError("/training/batch_size", reason)
    return run.model_copy(update={"batch_size": "full"})


def _check_weights(
    asked: TrainingSpec,
    profile: Mapping[str, ColumnProfile],
    targets: Sequence[ColumnProfile],
    task: Task,
) -> None:
    """Refuse weights of classes that are none, and of rows that are no numbers from 0 on."""
    if asked.class_weights is not None and task == "regression":
        raise SpecError("/class_weights", "regression has no classes; leave it out")
    if isinstance(asked.class_weights, dict) and targets[0].top:
        known = [str(value) for value, _ in targets[0].top]
        for name in asked.class_weights:
            if name not in known and len(known) == targets[0].distinct:
                raise SpecError(
                    "/class_weights", f"there is no class {name!r}{nearest(name, known)}"
                )
        if not any(asked.class_weights.get(name, 1.0) for name in known):
            raise SpecError("/class_weights", "every class has the weight 0; leave one out")
    if asked.sample_weight is not None:
        _check_sample_weight(asked.sample_weight, asked, profile)


def _check_sample_weight(
    name: str, asked: TrainingSpec, profile: Mapping[str, ColumnProfile]
) -> None:
    if name not in profile:
        raise SpecError("/sample_weight", _no_column(name, profile))
    for use, names in (("target", asked.targets), ("feature", asked.features or ())):
        if name in names:
            raise SpecError("/sample_weight", f"{name!r} is a {use} as well; it can be but one")
    column = profile[name]
    _check_present("/sample_weight", column)
    least = column.min if isinstance(column.min, float) else -1.0
    if column.type not in NUMERIC or least < 0 or column.max == 0:
        raise SpecError("/sample_weight", f"column {name!r} must hold numbers from 0 on, not all 0")


def _validation(asked: TrainingSpec, rows: int, sequence: SequenceSpec | None) -> Validation:
    validation, between = asked.validation, 0
    if sequence is not None and sequence.window is not None and sequence.group is None:
        between = (sequence.horizon or 1) - 1
    if validation is None:
        enough = rows >= MIN_ROWS_FOR_VALIDATION and rows - round(0.2 * rows) > between
        return ValidationPart(fraction=0.2 if enough else 0.0)
    if isinstance(validation, ValidationPart) and validation.fraction > 0:
        if rows < 2:
            one = "row" if sequence is None else "sequence"
            raise SpecError("/validation/fraction", f"one {one} cannot be divided; 0 would do")
        wanted = max(round(rows * validation.fraction), 1)
        if between and rows - wanted <= between:
            reason = f"of {rows:,} windows {wanted:,} would validate and {between:,} predict beyond"
            advice = "where these begin; use a smaller fraction or horizon"
            raise SpecError("/validation/fraction", f"{reason} {advice}")
    if isinstance(validation, ValidationFolds) and validation.folds > rows:
        raise SpecError("/validation/folds", f"there are {rows} rows; at most as many would do")
    return validation


def _check_alike(columns: Sequence[ColumnProfile], others: Sequence[ColumnProfile]) -> None:
    """Refuse to validate on columns that cannot be what the network is trained on."""
    path, profile = "/validation/dataset", {column.name: column for column in others}
    for wanted in columns:
        other = profile.get(wanted.name)
        if other is None:
            raise SpecError(path, _no_column(wanted.name, profile))
        alike = any({other.type, wanted.type} <= kinds for kinds in (NUMERIC, TEXTS))
        if (other.type, other.shape) != (wanted.type, wanted.shape) and not alike:
            described = [_words(column) for column in (other, wanted)]
            reason = f"column {wanted.name!r} is {described[0]} there, and {described[1]} here"
            raise SpecError(path, f"{reason}; both must be alike")
        _check_finite(path, other)


def _check_gaps(
    features: Sequence[ColumnProfile],
    columns: Mapping[str, ColumnSpec],
    others: Sequence[ColumnProfile],
) -> None:
    """Refuse to validate on missing values where there are to be none."""
    needed = {column.name for column in features if columns[column.name].impute == "none"}
    for other in others:
        if other.name in needed:
            _check_present("/validation/dataset", other)


def _words(column: ColumnProfile) -> str:
    """Say what the type of a column is."""
    return f"{column.type} of shape {column.shape}" if column.shape else str(column.type)


def _check_budget(network: NetworkSpec, inputs: Inputs, outputs: int, budget: int) -> None:
    count = Architecture(network, inputs, outputs, "identity").parameter_count()
    if count > budget:
        shape = f"{inputs.units} inputs, {outputs} outputs"
        advice = f"the budget is {budget:,}; use fewer or smaller layers"
        raise SpecError("/network", f"{count:,} weights and biases ({shape}); {advice}")


def inputs_of(
    features: Sequence[ColumnProfile],
    columns: Mapping[str, ColumnSpec],
    sequence: SequenceSpec | None,
) -> Inputs:
    """Return what the network is fed; there is less of it where training rows lack some levels."""
    levels, width = {}, 0
    for column in features:
        numbers, codes = most_inputs(column, columns[column.name])
        if codes:
            levels[width] = codes
        width += numbers
    shape = input_shape([tuple(column.shape or ()) for column in features], width)
    if sequence is None:
        return Inputs(shape, levels)
    return Inputs(shape, levels).repeated(sequence.steps, masked=bool(sequence.mask))
