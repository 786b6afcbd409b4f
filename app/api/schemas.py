"""What the API takes and answers, as pydantic models: validation and OpenAPI in one."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.store.lifecycle import JobStatus
from engine.data.formats import Format
from engine.data.table import ColumnType
from engine.spec import Spec, Task, TrainingSpec

METADATA_LIMIT_BYTES = 16 * 1024


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("holds control characters; use printable ones")
    return value


Title = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,100}$")]


class Taken(BaseModel):
    """What a caller sends beside a JSON body: query and path."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Answered(BaseModel):
    """What the service answers."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class DatasetPath(Taken):
    """A dataset."""

    dataset_id: Id


class JobPath(Taken):
    """A job."""

    job_id: Id


class ModelPath(Taken):
    """A model."""

    model_id: Id


class PageQuery(Taken):
    """Which part of a list."""

    limit: int = Field(default=50, ge=1, le=200)
    """How many items."""
    cursor: Id | None = None
    """`next_cursor` of the page before."""


class UploadQuery(Taken):
    """About a dataset that is sent as the raw body."""

    name: Title | None = None
    """What to call it; the file's name unless given."""


class UploadForm(Taken):
    """The fields of a multipart upload beside `file`."""

    name: Title | None = None
    """What to call it; the file's name unless given."""
    format: Format | None = None
    """The format; told by the file's name unless given."""


class RowsQuery(Taken):
    """How many rows."""

    limit: int = Field(default=10, ge=1, le=1000)


class ColumnProfile(Answered):
    """What a column holds."""

    name: str
    type: ColumnType
    missing: int
    """Values that are absent or NaN."""
    non_finite: int = 0
    """Infinite values."""
    distinct: int | None = None
    min: float | str | None = None
    max: float | str | None = None
    mean: float | None = None
    std: float | None = None
    top: list[list[Any]] | None = None
    """The most frequent values, each with its count."""
    shape: list[int] | None = None
    """Of one value of a tensor."""


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
    created_at: datetime
    columns: list[ColumnProfile]


class DatasetPage(Answered):
    """Datasets, newest first."""

    data: list[Dataset]
    next_cursor: Id | None


class Rows(Answered):
    """The first rows of a dataset."""

    data: list[dict[str, Any]]


def _storable(value: dict[str, Any] | None) -> dict[str, Any] | None:
    """Refuse what cannot be kept and answered again as it was."""
    size = len(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())
    if size > METADATA_LIMIT_BYTES:
        raise ValueError(f"{size:,} bytes; at most {METADATA_LIMIT_BYTES:,} are kept")
    return value


class JobRequest(TrainingSpec):
    """A training job: a dataset, what to predict in it, and by which network."""

    dataset: Id
    """The id of the dataset to train on."""
    name: Title | None = None
    """What to call the job."""
    metadata: Annotated[dict[str, Any] | None, AfterValidator(_storable)] = None
    """Anything to find again on the job; at most 16 KiB."""


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


class JobError(Answered):
    """Why a job failed."""

    code: str
    detail: str


class Job(Answered):
    """A training job."""

    id: str
    name: str | None
    status: JobStatus
    attempt: int
    progress: JobProgress
    metrics: dict[str, float]
    model: str | None
    error: JobError | None
    spec: dict[str, Any]
    """The whole spec as resolved; sent again it trains the same network."""
    metadata: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobPage(Answered):
    """Jobs, newest first."""

    data: list[Job]
    next_cursor: Id | None


class CurveQuery(Taken):
    """Which part of a curve."""

    since: int | None = Field(default=None, ge=0)
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


class ModelInput(Answered):
    """A column that a prediction needs."""

    name: str
    type: ColumnType
    levels: list[str] | None = None
    """The values that a category may have."""
    shape: list[int] | None = None
    """Of one value of a tensor."""


class Model(Answered):
    """A trained network that predicts."""

    id: str
    job: str | None
    task: Task
    inputs: list[ModelInput]
    outputs: list[str]
    classes: list[Any] | None
    metrics: dict[str, float]
    parameters: int
    bytes: int
    created_at: datetime


class ModelPage(Answered):
    """Models, newest first."""

    data: list[Model]
    next_cursor: Id | None


class PredictRequest(Spec):
    """Rows to predict."""

    instances: list[dict[str, Any] | list[Any]] = Field(min_length=1, max_length=100_000)
    """Each an object by input name, or an array in the order of the model's `inputs`."""


class Prediction(BaseModel):
    """What is predicted for one row: a class, a value, or several values."""

    label: Any | None = None
    probabilities: dict[str, float] | None = None
    value: float | None = None
    values: dict[str, float] | None = None


class Predictions(Answered):
    """Predictions in the order of the instances."""

    model: str
    predictions: list[Prediction]


class EvaluateRequest(Spec):
    """What to measure on."""

    dataset: Id
    """The id of a dataset with the model's inputs and outputs."""


class Evaluation(Answered):
    """How a model does on a dataset."""

    model: str
    dataset: str
    rows: int
    metrics: dict[str, float]


class WeightsQuery(Taken):
    """How to write the weights."""

    format: Annotated[str, Field(pattern="^(safetensors|npz)$")] = "safetensors"
    """`safetensors` or `npz`."""


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
