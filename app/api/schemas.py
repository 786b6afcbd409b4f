"""What the API takes and answers, as pydantic models: validation and OpenAPI in one."""

from __future__ import annotations

import json
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from app.store.keys import USUAL, Scope
from app.store.lifecycle import JobStatus
from app.store.tables import now
from engine.data.formats.kinds import MISSING, Decimal, Delimiter, Encoding, Format
from engine.data.profiling import Figure, Flag
from engine.data.table import ColumnType, json_type
from engine.metrics import ClassificationMetric, RegressionMetric
from engine.spec import ColumnKind, Encode, Scale, SequenceSpec, Spec, Task, TrainingSpec
from engine.training import StopReason

METADATA_LIMIT_BYTES = 16 * 1024
METADATA_LIMIT_LEVELS = 32

ID_FORM = r"[A-Za-z0-9_.-]{1,100}"


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("holds control characters; use printable ones")
    if not value.strip():
        raise ValueError("is blank; say something or leave it out")
    return value


def _written(moment: Any) -> Any:
    if not isinstance(moment, str):
        raise ValueError(f"expected a string such as 2030-01-31T12:00:00Z, got {json_type(moment)}")  # noqa: TRY004 - pydantic's
    return moment


def _not_like_an_id(name: str) -> str:
    if name.startswith("mdl_"):
        raise ValueError("begins like a model's id; use another name")
    return name


def _coming(moment: datetime) -> datetime:
    if moment <= now():
        raise ValueError("is over; name a time to come")
    return moment


Moment = Annotated[
    AwareDatetime, Field(strict=False), BeforeValidator(_written), AfterValidator(_coming)
]
Title = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Id = Annotated[str, Field(pattern=f"^{ID_FORM}$")]
Name = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_.-]{0,99}$"), AfterValidator(_not_like_an_id)]


class Taken(BaseModel):
    """What a caller sends beside a JSON body: query and path."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @classmethod
    @cache
    def model_json_schema(  # type: ignore[override]  # the same arguments, passed on
        cls, *args: Any, **options: Any
    ) -> dict[str, Any]:
        """Return the schema, worked out once; flask-openapi3 asks for it in every request."""
        return super().model_json_schema(*args, **options)


class Answered(BaseModel):
    """What the service answers."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class DatasetPath(Taken):
    """A dataset."""

    dataset_id: Id


class JobPath(Taken):
    """A job."""

    job_id: Id


class BatchPath(Taken):
    """A batch prediction."""

    batch_id: Id


class ModelPath(Taken):
    """A model."""

    model_id: Id


class ModelVersionPath(ModelPath):
    """A version of a model."""

    version: Id


class NamePath(Taken):
    """A name of a model."""

    name: Name


class KeyPath(Taken):
    """A key."""

    key_id: Id


class PageQuery(Taken):
    """Which part of a list."""

    limit: int = Field(default=50, ge=1, le=200)
    """How many items."""
    cursor: str | None = None
    """`next_cursor` of the page before."""


class UploadOptions(Taken):
    """What is known of a file; the rest is sniffed."""

    delimiter: Delimiter | None = None
    """Between two values of delimited text."""
    encoding: Encoding | None = None
    """Of text."""
    decimal: Decimal | None = None
    """What stands before the fraction of a number in text."""
    header: bool | None = None
    """Whether the first row of delimited text names the columns."""
    missing: list[Annotated[str, Field(max_length=100)]] = Field(
        default=list(MISSING), max_length=100
    )
    """What counts as missing in text, beside nothing."""
    day_first: bool | None = None
    """Whether 1/2/2026 is in February."""
    types: dict[str, Literal["number", "integer", "boolean", "category", "text", "timestamp"]] = {}
    """What to take columns of text for."""


def _json_object(value: Any) -> Any:
    """Read an object from a form or a query, where it can only be text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError('expected a JSON object such as {"delimiter": ";"}') from error


SentOptions = Annotated[UploadOptions, BeforeValidator(_json_object, json_schema_input_type=str)]


class UploadQuery(Taken):
    """About a dataset that is sent as the raw body."""

    name: Title | None = None
    """What to call it; the file's name unless given."""
    options: SentOptions | None = None
    """`UploadOptions` as JSON."""


class UploadForm(Taken):
    """The fields of a multipart upload beside `file`."""

    name: Title | None = None
    """What to call it; the file's name unless given."""
    format: Format | None = None
    """The format; told by the file's name unless given."""
    options: SentOptions | None = None
    """`UploadOptions` as JSON."""


class RowsQuery(Taken):
    """How many rows."""

    limit: int = Field(default=10, ge=1, le=1000)


class KeysQuery(PageQuery):
    """Which keys."""

    owner: Title | None = None


class KeyRequest(Spec):
    """A key to make."""

    owner: Title
    """Who uses the service with it; owners do not see what others have."""
    name: Title | None = None
    """What it is for, in words."""
    scopes: list[Annotated[Scope, Field(strict=False)]] = Field(
        default=list(USUAL), min_length=1, max_length=len(Scope)
    )
    """What it may be used for."""
    expires_at: Moment | None = None
    """When it ends; never unless given."""


class Key(Answered):
    """What lets a caller in."""

    id: str
    """The first part of the key itself."""
    owner: str
    name: str | None
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    used_at: datetime | None
    """When it was last used, to the minute."""


class NewKey(Key):
    """A key that has just been made."""

    key: str | None = None
    """What to send as `Authorization: Bearer <key>`. Keep it: it cannot be shown again."""


class KeyPage(Answered):
    """Keys, newest first."""

    data: list[Key]
    next_cursor: str | None


class ColumnProfile(Answered):
    """What a column holds."""

    name: str
    type: ColumnType
    missing: int
    """Values that are absent or NaN."""
    non_finite: int = 0
    """Infinite values."""
    distinct: int | None = None
    """Different values, or the least that there are where `approximate` says so."""
    min: float | str | None = None
    max: float | str | None = None
    mean: float | None = None
    std: float | None = None
    quantiles: dict[str, float] | None = None
    """By the share of values that are not above: 0.05, 0.25, 0.5, 0.75 and 0.95."""
    top: list[list[Any]] | None = None
    """The most frequent values, each with its count."""
    shape: list[int] | None = None
    """Of one value of a tensor."""
    approximate: list[Figure] = []
    """Figures that are not exact, as there are too many different values to count."""
    flags: list[Flag] = []
    """`constant` has one value, `identifier` seems to number the rows."""
    notes: list[str] = []
    """What is doubtful, and what was decided, in words."""


class Dataset(Answered):
    """An uploaded table."""

    id: str
    name: str
    format: str
    rows: int
    bytes: int
    """Of the uploaded file."""
    sha256: str
    """Of the uploaded file."""
    stored_bytes: int
    """That it takes in the storage."""
    created_at: datetime
    sniffed: dict[str, Any]
    """What was found out about the file as a whole: its encoding, delimiter, decimal, header."""
    columns: list[ColumnProfile]


class DatasetPage(Answered):
    """Datasets, newest first."""

    data: list[Dataset]
    next_cursor: str | None


class Rows(Answered):
    """The first rows of a dataset."""

    data: list[dict[str, Any]]


def _storable(value: dict[str, Any] | None) -> dict[str, Any] | None:
    """Refuse what cannot be kept and answered again as it was."""
    if _levels(value) > METADATA_LIMIT_LEVELS:
        raise ValueError(f"is nested too deeply; at most {METADATA_LIMIT_LEVELS} levels are kept")
    try:
        size = len(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())
    except ValueError as error:
        raise ValueError("holds a number too large to keep; send it as a string") from error
    if size > METADATA_LIMIT_BYTES:
        raise ValueError(f"takes {size:,} bytes; at most {METADATA_LIMIT_BYTES:,} are kept")
    return value


def _levels(value: Any) -> int:
    """Count how deep a value is nested, without recursion."""
    levels, here = 0, [value]
    while here:
        levels += 1
        here = [
            inner
            for outer in here
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return levels


class CheckpointRule(Spec):
    """When a running job is saved, so that it can be gone on with from there."""

    seconds: float | None = Field(default=None, ge=0.1, le=86_400)
    """So often; as the operator has set it unless given."""
    epochs: int | None = Field(default=None, ge=1, le=1_000_000)
    """After so many epochs, instead of by the clock."""


Metric = Literal["train_loss", "validation_loss"] | ClassificationMetric | RegressionMetric


class Publish(Spec):
    """What a job's model is to be called once it has succeeded."""

    name: Name
    """Other owners may use the same."""
    if_better: Metric | None = None
    """Only if the model is better in this metric than the one that has the name."""


class JobRequest(TrainingSpec):
    """A training job: a dataset, what to predict in it, and by which network."""

    dataset: Id
    """The id of the dataset to train on."""
    name: Title | None = None
    """What to call the job."""
    metadata: Annotated[dict[str, Any] | None, AfterValidator(_storable)] = None
    """Anything to find again on the job; at most 16 KiB."""
    priority: int = Field(default=0, ge=-100, le=100)
    """Jobs with a higher one are trained first."""
    checkpoint: CheckpointRule = CheckpointRule()
    """When it is saved while it runs."""
    publish: Publish | None = None
    """What to call its model."""


class JobError(Answered):
    """Why a job failed."""

    code: str
    detail: str


class BatchRequest(Spec):
    """A batch prediction: a model, and the dataset whose rows it is asked about."""

    model: Id
    """Its id, or a name of it, which is looked up once."""
    dataset: Id
    """The id of a dataset with the model's inputs; other columns are ignored."""
    format: Literal["csv", "parquet", "arrow"] = "csv"
    """Of the result."""
    probabilities: bool = True
    """Whether to tell the probabilities of a classifier."""
    top_k: int | None = Field(default=None, ge=1, le=10_000)
    """Of how many classes, the likeliest first; of all of them unless given."""
    threshold: float | None = Field(default=None, ge=0, le=1)
    """From which probability on the second of two classes is predicted."""
    name: Title | None = None
    """What to call the batch prediction."""
    metadata: Annotated[dict[str, Any] | None, AfterValidator(_storable)] = None
    """Anything to find again on it; at most 16 KiB."""
    priority: int = Field(default=0, ge=-100, le=100)
    """Jobs with a higher one come first."""


class BatchProgress(Answered):
    """How far a batch prediction has come."""

    rows: int
    """That are predicted and kept."""
    total: int
    fraction: float
    eta_seconds: float | None
    rows_per_second: float | None


class BatchResult(Answered):
    """The file that came of a batch prediction."""

    bytes: int
    rows: int
    format: Literal["csv", "parquet", "arrow"]
    path: str
    """Where to fetch it."""


class Batch(Answered):
    """A batch prediction."""

    id: str
    name: str | None
    status: JobStatus
    attempt: int
    priority: int
    model: str
    dataset: str
    dataset_sha256: str | None
    format: Literal["csv", "parquet", "arrow"]
    probabilities: bool
    top_k: int | None
    threshold: float | None
    progress: BatchProgress
    result: BatchResult | None
    error: JobError | None
    metadata: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class BatchPage(Answered):
    """Batch predictions, newest first."""

    data: list[Batch]
    next_cursor: str | None


class JobsQuery(PageQuery):
    """Which jobs."""

    status: JobStatus | None = None
    dataset: Id | None = None
    name: Title | None = None


class WaitQuery(Taken):
    """How long to hold the answer."""

    wait: float | None = Field(default=None, ge=0, le=60)
    """Seconds to wait for a change (with `If-None-Match`) or for the end of the job."""


class JobProgress(Answered):
    """How far a job has come."""

    epoch: int
    epochs: int
    fraction: float
    eta_seconds: float | None
    samples_per_second: float | None


class Publication(Answered):
    """Whether a job's model was given the name that it was to have."""

    name: str
    published: bool
    reason: str


class Job(Answered):
    """A training job."""

    id: str
    name: str | None
    status: JobStatus
    attempt: int
    priority: int
    checkpoint: CheckpointRule
    progress: JobProgress
    metrics: dict[str, float]
    model: str | None
    publish: Publish | None
    publication: Publication | None
    """What came of `publish`, once it has succeeded."""
    reproducibility: Literal["bitwise", "numerical"] | None
    """`bitwise` if all of it ran on one kind of worker: the same spec gives the same bits there.

    `numerical` if it went on from a checkpoint on another kind, which rounds otherwise."""
    fingerprints: list[dict[str, Any]]
    """What its numbers come from: version, NumPy, BLAS, its threads and kernels."""
    notes: list[str]
    """What was noticed in the data of sequences: gaps, and what was left out."""
    stop_reason: StopReason | None
    """Which rule ended the training of a job that succeeded."""
    error: JobError | None
    spec: dict[str, Any]
    """The whole spec as resolved; sent again it trains the same network."""
    multiply_adds: int | None
    """How much arithmetic all of its epochs are, forward and back."""
    dataset_sha256: str | None
    """Of the dataset's file as uploaded: what the job was accepted with, also once that is gone."""
    validation_dataset_sha256: str | None
    """The same of the dataset that it validates on, if the spec names one."""
    metadata: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobPage(Answered):
    """Jobs, newest first."""

    data: list[Job]
    next_cursor: str | None


class CurveQuery(Taken):
    """Which part of a curve."""

    since: int | None = Field(default=None, ge=0, le=1_000_000_000)
    """Only the points after this epoch."""


class CurvePoint(BaseModel):
    """One epoch; metrics of the validation rows stand beside the losses."""

    model_config = ConfigDict(extra="allow")

    epoch: int
    step: int
    train_loss: float
    validation_loss: float | None
    learning_rate: float
    seconds: float


class Curve(Answered):
    """The loss curve of a job, by epoch."""

    points: list[CurvePoint]


Curve.model_config["openapi_extra"] = {  # type: ignore[typeddict-unknown-key]  # flask-openapi3's
    "content": {
        "text/csv": {"schema": {"type": "string"}},
        "image/svg+xml": {"schema": {"type": "string"}},
        "image/png": {"schema": {"type": "string", "format": "binary"}},
    }
}


class EventsHeader(BaseModel):
    """From where to go on."""

    last_event_id: str = Field(default="", alias="Last-Event-ID")
    """The id of the last event that was received; anything else begins anew."""


def _event(name: str, shape: str) -> dict[str, Any]:
    fields = {
        "event": {"type": "string", "enum": [name]},
        "id": {"type": "string", "pattern": "^[0-9]+[.][0-9]+$"},
        "data": {"$ref": f"#/components/schemas/{shape}"},
    }
    return {"type": "object", "required": list(fields), "properties": fields}


JOB_EVENTS = {
    "description": "Events, up to the `status` that tells how the job ended.",
    "content": {
        "text/event-stream": {
            "schema": {
                "description": "One event of the stream; its data is JSON in a string.",
                "oneOf": [
                    _event("status", "Job"),
                    _event("progress", "JobProgress"),
                    _event("point", "CurvePoint"),
                ],
            },
            "example": (
                "retry: 1000\n\n"
                "event: progress\nid: 7.12\n"
                'data: {"epoch":12,"epochs":100,"fraction":0.12,"eta_seconds":9.1,'
                '"samples_per_second":54000.0}\n\n'
            ),
        }
    },
}
"""An event stream, described by its events: OpenAPI 3.1 has no words for a sequence."""


class ModelInput(Answered):
    """A column that a prediction needs."""

    name: str
    type: ColumnType
    levels: list[str] | None = None
    """The levels of a category that were learnt; any other is taken for an unknown one.

    What a boolean in words calls false and true.
    """
    shape: list[int] | None = None
    """Of one value of a tensor."""
    required: bool
    """Whether every row has to have it; what is not may be null or absent."""


class ColumnPreprocessing(Answered):
    """What becomes of a column before the network sees it, fitted on the training rows alone."""

    column: str
    type: ColumnKind
    """What it is taken for."""
    inputs: int
    """How many numbers the network sees of it."""
    encode: Encode | None = None
    impute: float | str | None = None
    fill: float | str | None = None
    """What stands for a missing number or time."""
    missing_flag: bool | None = None
    """Whether one more number says where it is missing, as it was in training rows."""
    scale: Scale | None = None
    center: float | None = None
    factor: float | None = None
    """A number becomes `z = (x - center) * factor`, and that `z / sqrt(1 + (z / 3)**2)`.

    With `scale` as `none` it stays what it is."""
    levels: int | None = None
    """How many levels of a category are told apart."""
    other: bool | None = None
    """Whether training rows had rare levels, which are taken for one, as unknown ones are."""
    missing: bool | None = None
    """Whether missing is a level of its own, as training rows had such."""


class Model(Answered):
    """A trained network that predicts."""

    id: str
    job: str | None
    task: Task
    inputs: list[ModelInput]
    preprocessing: list[ColumnPreprocessing]
    """What becomes of each input, in the same order."""
    outputs: list[str]
    classes: list[Any] | None
    sequence: SequenceSpec | None
    """How the rows of an example follow on each other; null where it is one row."""
    metrics: dict[str, float]
    parameters: int
    bytes: int
    created_at: datetime


class ModelPage(Answered):
    """Models, newest first."""

    data: list[Model]
    next_cursor: str | None


def _row(value: Any) -> Any:
    """Refuse here what is neither, else each form of the union would complain of it."""
    if not isinstance(value, (dict, list)):
        raise ValueError("expected an object or an array")  # noqa: TRY004 - pydantic's way
    return value


Instance = Annotated[dict[str, Any] | list[Any], BeforeValidator(_row)]


class NameRequest(Spec):
    """Which model gets the name."""

    model: Id
    """Its id, or another name of it."""


class ModelName(Answered):
    """What a model is called."""

    name: str
    model: str
    version: int
    """One more with every switch."""
    created_at: datetime
    updated_at: datetime
    """When it was last switched."""


class ModelNamePage(Answered):
    """Names, newest first."""

    data: list[ModelName]
    next_cursor: str | None


class NameSwitch(Answered):
    """That a model got a name."""

    version: int
    model: str
    replaced: str | None
    """The model that had it before."""
    job: str | None
    """The job that published it, if one did."""
    created_at: datetime


class NameHistory(Answered):
    """A name's switches, newest first."""

    data: list[NameSwitch]
    next_cursor: str | None


MOST_INSTANCES = 100_000
"""In one request."""


class PredictRequest(Spec):
    """Rows to predict."""

    instances: list[Instance] = Field(min_length=1, max_length=MOST_INSTANCES)
    """Each an object by input name, or an array in the order of the model's `inputs`.

    Of a model with a `sequence` each is `{"sequence": [row, row, ...]}`, with such rows in their
    order. Forecasts take `window` rows; of more the last ones count. Whole series have 1 to
    `length` rows, exactly `length` without a `mask`."""
    probabilities: bool = True
    """Whether to tell the probabilities of a classifier."""
    top_k: int | None = Field(default=None, ge=1, le=10_000)
    """Of how many classes, the likeliest first; of all of them unless given."""
    threshold: float | None = Field(default=None, ge=0, le=1)
    """From which probability on the second of two classes is predicted."""


class PredictQuery(Taken):
    """The same for rows that are sent as a table; JSON says it in its body."""

    probabilities: bool = True
    """Whether to tell the probabilities of a classifier."""
    top_k: int | None = Field(default=None, ge=1, le=10_000)
    """Of how many classes, the likeliest first; of all of them unless given."""
    threshold: float | None = Field(default=None, ge=0, le=1)
    """From which probability on the second of two classes is predicted."""


class Prediction(BaseModel):
    """What is predicted for one row, or sequence: a class, a value, or several values.

    Where the `horizon` is more than 1 a value is an array of so many, the next step's first.
    """

    label: Any | None = None
    probabilities: dict[str, float] | None = None
    value: float | list[float] | None = None
    values: dict[str, float | list[float]] | None = None


class Predictions(Answered):
    """Predictions in the order of the instances."""

    model: str
    predictions: list[Prediction]


class EvaluateRequest(Spec):
    """What to measure on."""

    dataset: Id
    """The id of a dataset with the model's inputs and outputs."""


class Confusion(Answered):
    """How many rows of each class were taken for which."""

    classes: list[Any]
    counts: list[list[int]]
    """A row for each true class, with a number for each predicted one."""


class Evaluation(Answered):
    """How a model does on a dataset."""

    model: str
    dataset: str
    rows: int
    """Measured on: those with a value in every output."""
    metrics: dict[str, float]
    confusion: Confusion | None
    """Of up to 100 classes."""


Datatype = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
]
Parameters = dict[str, bool | int | float | str]


class InferenceInput(BaseModel):
    """A tensor that is sent: `data`, or binary data of as many bytes as its parameters say."""

    name: str
    shape: list[Annotated[int, Field(ge=0, le=2**40)]] = Field(max_length=8)
    datatype: Datatype
    data: list[Any] | None = None
    """Nested or flat, in row-major order."""
    parameters: Parameters = Field(default_factory=dict)


class InferenceOutput(BaseModel):
    """A tensor that is wanted."""

    name: str
    parameters: Parameters = Field(default_factory=dict)


class InferenceRequest(BaseModel):
    """Tensors to predict from, as the Open Inference Protocol has it."""

    id: str | None = None
    inputs: list[InferenceInput] = Field(min_length=1, max_length=16_384)
    outputs: list[InferenceOutput] | None = Field(default=None, max_length=16_384)
    """All of them unless given."""
    parameters: Parameters = Field(default_factory=dict)


class InferenceTensor(Answered):
    """A tensor that a model takes or answers; -1 stands for any number of rows."""

    name: str
    datatype: Datatype
    shape: list[int]
    parameters: dict[str, Any] | None = None


class InferenceModel(Answered):
    """The tensors of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[InferenceTensor]
    outputs: list[InferenceTensor]


class InferenceResponseTensor(Answered):
    """A tensor that is answered."""

    name: str
    datatype: Datatype
    shape: list[int]
    data: list[Any] | None = None
    """Flat; absent where it comes as binary data."""
    parameters: Parameters | None = None


class InferenceResponse(Answered):
    """Predictions as tensors."""

    model_name: str
    model_version: str
    id: str | None = None
    parameters: Parameters
    """`model` is the id of the model that answered."""
    outputs: list[InferenceResponseTensor]


class InferenceServer(Answered):
    """What serves."""

    name: str
    version: str
    extensions: list[str]


class InferenceLive(Answered):
    """The process serves."""

    live: bool


class InferenceReady(Answered):
    """Whether everything that the service needs answers."""

    ready: bool
    live: bool


class InferenceModelReady(Answered):
    """A model can be asked."""

    name: str
    ready: bool


class InferenceError(Answered):
    """An error, as the Open Inference Protocol has it."""

    error: str


class TraceRequest(Spec):
    """An example, and what the network should answer."""

    instance: dict[str, Any] | list[Any]
    """An object by input name, or an array in the order of the model's `inputs`."""
    target: str | bool | int | float | list[int | float]
    """A class; or a number, several for several targets."""


class LayerTrace(Answered):
    """What one layer did with the example."""

    name: str
    type: str
    shape: list[int]
    """Of its output."""
    output: list[Any]
    delta: list[Any] | None
    """The gradient of the loss at the output."""
    gradients: dict[str, list[Any]]
    """Of the loss at the weights and biases."""


class Trace(Answered):
    """An example's way through the network and back."""

    model: str
    loss: float
    layers: list[LayerTrace]
    """The last layer first, as backpropagation visits them."""


class SaliencyRequest(Spec):
    """Rows to explain."""

    instances: list[dict[str, Any] | list[Any]] = Field(min_length=1, max_length=1000)
    """Each an object by input name, or an array in the order of the model's `inputs`."""
    output: str | bool | int | float | None = None
    """The class or target to look at; the predicted class, or the first target, unless given."""


class Saliency(Answered):
    """How much each input moves the output."""

    output: Any
    """The class, or the target, that was looked at."""
    gradients: dict[str, Any]
    """The slope of its probability, or value, per unit of each column."""


class Saliencies(Answered):
    """Saliencies in the order of the instances."""

    model: str
    saliencies: list[Saliency]


class Features(Answered):
    """What each unit of the first layer looks for."""

    model: str
    layer: str
    shape: list[int]
    """Units and inputs; or units, channels, height and width."""
    inputs: list[str] | None
    """What each input is; None for an image."""
    weights: list[Any]


class Share(Answered):
    """How much of something there is, and how much there may be."""

    used: int | float
    limit: int | float | None
    """Null where there is none."""


class Usage(Answered):
    """What the caller has and may have."""

    datasets: Share
    dataset_bytes: Share
    """That their files take."""
    queued_jobs: Share
    """Also those that are paused."""
    running_jobs: Share
    training_seconds: Share
    """Of all jobs together, within the last 24 hours."""


class WeightsQuery(Taken):
    """How to write the weights."""

    format: Literal["safetensors", "npz", "onnx"] = "safetensors"
    """The file format. An `onnx` graph takes raw columns: preprocessing is part of it."""


class Live(Answered):
    """The process serves."""

    status: Literal["ok"]


class Ready(Answered):
    """Whether everything that the service needs answers."""

    status: Literal["ok", "degraded"]
    dependencies: dict[str, str]
    """`ok`, or what is the matter, for each by name."""


class FieldError(Answered):
    """What is wrong in one place of a body."""

    pointer: str
    """RFC 6901."""
    detail: str


class Problem(Answered):
    """An error, RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str | None
    errors: list[FieldError] | None = None
