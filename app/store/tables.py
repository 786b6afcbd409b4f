"""The tables, as classes. A row names its owner, or the row that it is a part of does."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Enum,
    ForeignKey,
    Index,
    MetaData,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from uuid_utils import uuid7

from app.store.lifecycle import JobKind, JobStatus


def new_id(prefix: str) -> str:
    """Return a new id such as ``ds_0190…``; later ids sort after earlier ones."""
    return f"{prefix}_{uuid7().hex}"


def now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """A time in UTC; SQLite forgets the zone, so it is put back on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002, D102
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002, D102
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """What all tables share: how Python's types and the constraints' names are written."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        JobStatus: Enum(
            JobStatus,
            native_enum=False,
            length=16,
            values_callable=lambda statuses: [status.value for status in statuses],
        ),
        JobKind: Enum(
            JobKind,
            native_enum=False,
            length=16,
            values_callable=lambda kinds: [kind.value for kind in kinds],
        ),
        datetime: UtcDateTime(),
        int: BigInteger(),
        dict[str, Any]: JSON(none_as_null=True),
        dict[str, float]: JSON(),
        dict[str, str]: JSON(none_as_null=True),
        list[dict[str, Any]]: JSON(),
        list[str]: JSON(),
        list[Any]: JSON(none_as_null=True),
    }


class Dataset(Base):
    """An uploaded table; its cells are a file in the storage."""

    __tablename__ = "datasets"
    __table_args__ = (
        Index(None, "owner", "id"),
        Index(None, "owner", "stored_bytes"),
        Index(None, "owner", "origin"),
        Index(None, "location"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    name: Mapped[str]
    format: Mapped[str]
    rows: Mapped[int]
    bytes: Mapped[int]
    """Of the file as it was uploaded, as is the sha256."""
    sha256: Mapped[str]
    columns: Mapped[list[dict[str, Any]]]
    sniffed: Mapped[dict[str, Any] | None]
    """What was found out about the file as a whole; None of a dataset from before."""
    origin: Mapped[str | None]
    """What its file was made of: equal ones of an owner share it; None of a dataset from before."""
    location: Mapped[str]
    """The name of its file in the storage, which others of the same origin may have, too."""
    stored_bytes: Mapped[int]
    """Of that file."""
    created_at: Mapped[datetime] = mapped_column(default=now)


class Job(Base):
    """A training or a batch prediction. The row is the job; a message about it is a doorbell."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index(None, "owner", "kind", "id"),
        Index(None, "owner", "claimed_at"),
        Index(None, "owner", "status"),
        Index(None, "status", "queued_at"),
        Index(None, "dataset_id"),
        Index(None, "validation_dataset_id"),
        Index(None, "model_id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    kind: Mapped[JobKind] = mapped_column(default=JobKind.TRAINING)
    dataset_id: Mapped[str | None] = mapped_column(ForeignKey("datasets.id", ondelete="SET NULL"))
    """A live job has one; a job that has ended may outlive it."""
    dataset_sha256: Mapped[str | None]
    """Of the dataset as the job was accepted with it, also once the dataset is gone."""
    validation_dataset_id: Mapped[str | None]
    """Of the dataset that is validated on, if the spec names one; it may be gone once the job has
    ended."""
    validation_dataset_sha256: Mapped[str | None]
    name: Mapped[str | None]
    job_metadata: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    """Whatever the caller wants to keep with it (SQLAlchemy has the plain name)."""
    spec: Mapped[dict[str, Any]]
    """The resolved spec, with the dataset's id: sending it back trains the same network.

    Of a batch prediction, what was asked for."""
    multiply_adds: Mapped[int | None]
    """That all of its epochs take; unknown of jobs from before this was counted."""
    traceparent: Mapped[str | None]
    priority: Mapped[int] = mapped_column(default=0)
    """Those with a higher one come first."""
    checkpoint_seconds: Mapped[float | None]
    """How often the caller wants it saved; None leaves it to the settings."""
    checkpoint_epochs: Mapped[int | None]
    """The same, in epochs."""
    publish: Mapped[dict[str, Any] | None]
    """The name that its model is to get, and the metric that has to be better for it."""
    publication: Mapped[dict[str, Any] | None]
    """What came of that, once it has succeeded."""

    status: Mapped[JobStatus] = mapped_column(default=JobStatus.QUEUED)
    version: Mapped[int] = mapped_column(default=1)
    """One more after every change that a caller can see."""
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    pause_requested: Mapped[bool] = mapped_column(default=False)

    attempt: Mapped[int] = mapped_column(default=0)
    """One more with every claim; what an older attempt writes is refused."""
    failures: Mapped[int] = mapped_column(default=0)
    """Attempts that ended with a lost worker."""
    lease_owner: Mapped[str | None]
    lease_expires: Mapped[float | None]
    """By the database's clock, as are the four times below."""
    claimed_at: Mapped[float | None]
    """When a worker last took it."""
    queued_at: Mapped[float]
    run_after: Mapped[float | None]
    """Before that nobody takes it: workers were lost over it."""
    rung_at: Mapped[float | None]
    """When the doorbell last rang for it."""

    epoch: Mapped[int] = mapped_column(default=0)
    epochs: Mapped[int]
    fraction: Mapped[float] = mapped_column(default=0.0)
    eta_seconds: Mapped[float | None]
    samples_per_second: Mapped[float | None]
    metrics: Mapped[dict[str, float]] = mapped_column(default=dict)
    fingerprints: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    """What the numbers of its training come from, one after another: `worker.fingerprint`."""
    notes: Mapped[list[str]] = mapped_column(default=list)
    """What was noticed in its data, and what was left out of it."""
    stop_reason: Mapped[str | None]
    """Which rule ended the training of a job that succeeded."""
    error_code: Mapped[str | None]
    error_detail: Mapped[str | None]
    model_id: Mapped[str | None] = mapped_column(
        ForeignKey("models.id", ondelete="SET NULL", use_alter=True)
    )
    """The model that came out of a training, or that a batch prediction asks."""
    parts: Mapped[list[Any] | None]
    """Of a live batch prediction: the names of the files that its rows up to `epoch` are in."""
    result: Mapped[dict[str, Any] | None]
    """Of a batch prediction that succeeded: the name of its file, its bytes and its rows."""

    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class CurvePoint(Base):
    """One epoch of a job's loss curve."""

    __tablename__ = "curve_points"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    step: Mapped[int]
    train_loss: Mapped[float]
    validation_loss: Mapped[float | None]
    learning_rate: Mapped[float]
    seconds: Mapped[float]
    metrics: Mapped[dict[str, float]]


class Artifact(Base):
    """Bytes that are too large for one value: weights and checkpoints."""

    __tablename__ = "artifacts"

    id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    sha256: Mapped[str]
    bytes: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=now)


class ArtifactChunk(Base):
    """A piece of an artifact, so that no more than this is in memory at once."""

    __tablename__ = "artifact_chunks"

    artifact_id: Mapped[str] = mapped_column(
        ForeignKey("artifacts.id", ondelete="CASCADE"), primary_key=True
    )
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    data: Mapped[bytes]


class Checkpoint(Base):
    """The newest state of a job's training, to go on from."""

    __tablename__ = "checkpoints"
    __table_args__ = (Index(None, "artifact_id"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    artifact_id: Mapped[str] = mapped_column(ForeignKey("artifacts.id"))
    epoch: Mapped[int]
    step: Mapped[int]
    attempt: Mapped[int]
    fingerprints: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    """What led to it, as in `Job`."""
    created_at: Mapped[datetime] = mapped_column(default=now)


class TrainedModel(Base):
    """What a job leaves behind, to predict with. It never changes."""

    __tablename__ = "models"
    __table_args__ = (
        Index(None, "owner", "id"),
        Index(None, "job_id"),
        Index(None, "artifact_id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"))
    task: Mapped[str]
    inputs: Mapped[list[dict[str, Any]]]
    outputs: Mapped[list[str]]
    classes: Mapped[list[Any] | None]
    sequence: Mapped[dict[str, Any] | None]
    """How the rows of an example follow on each other; None where it is one row."""
    metrics: Mapped[dict[str, float]]
    parameters: Mapped[int]
    bytes: Mapped[int]
    artifact_id: Mapped[str] = mapped_column(ForeignKey("artifacts.id"))
    created_at: Mapped[datetime] = mapped_column(default=now)


class ModelName(Base):
    """What an owner calls a model, as long as they call one so."""

    __tablename__ = "names"
    __table_args__ = (
        UniqueConstraint("owner", "name"),
        Index(None, "owner", "id"),
        Index(None, "model_id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    name: Mapped[str]
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    version: Mapped[int] = mapped_column(default=1)
    """How many switches there were; the last has this number."""
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)


class NameSwitch(Base):
    """That a name was given to a model, which may be gone since."""

    __tablename__ = "name_switches"
    __table_args__ = (Index(None, "name_id", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    name_id: Mapped[str] = mapped_column(ForeignKey("names.id", ondelete="CASCADE"))
    version: Mapped[int]
    model_id: Mapped[str]
    replaced: Mapped[str | None]
    """The model that had the name before."""
    job_id: Mapped[str | None]
    """The job that published the model, if none of its owner's calls did."""
    created_at: Mapped[datetime] = mapped_column(default=now)


class ApiKey(Base):
    """What lets a caller in."""

    __tablename__ = "api_keys"
    __table_args__ = (Index(None, "owner", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    """The public part of the key."""
    owner: Mapped[str]
    name: Mapped[str | None]
    scopes: Mapped[list[str]]
    sha256: Mapped[str]
    """Of the secret part."""
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]
    """To the minute."""


class IdempotencyKey(Base):
    """A key that an owner sent with a request, and the answer once there is one."""

    __tablename__ = "idempotency_keys"

    owner: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    status: Mapped[int | None]
    """None while the first request is in flight."""
    headers: Mapped[dict[str, str] | None]
    body: Mapped[bytes | None]
    created_at: Mapped[float]
    """By the database's clock."""


class TrainingUsage(Base):
    """How long a process trained for an owner within an hour; it outlives the jobs.

    Each process has rows of its own, so that none waits for another to write.
    """

    __tablename__ = "training_usage"
    __table_args__ = (Index(None, "hour"),)

    owner: Mapped[str] = mapped_column(primary_key=True)
    hour: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Hours since 1970, by the database's clock."""
    worker: Mapped[str] = mapped_column(primary_key=True)
    seconds: Mapped[float]


class RateLimit(Base):
    """How much of a rate a subject has used; what is full again is as good as absent.

    On PostgreSQL the table is not logged: nothing is waited for, and a crash forgets it.
    """

    __tablename__ = "rate_limits"

    policy: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    """The owner, or the address, that is limited."""
    full_at: Mapped[float]
    """When nothing of it is used any more, by the database's clock."""
