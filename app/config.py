"""Settings: everything the environment can change, read here and nowhere else."""

from __future__ import annotations

import ipaddress
import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from engine.spec import MAX_COLUMNS, PARAMETER_BUDGET

VERSION = "0.1.0"
"""Of the service."""

MIB = 2**20

LOOPBACK = ("localhost", "127.0.0.1", "::1")

BROKERS = ("memory://", "redis://", "rediss://")
URLS = ("database_url", "broker_url", "storage_url")
"""The settings that are URLs, whose passwords are secrets."""

SCHEMES = ("sqlite:///", "postgresql://", "postgresql+psycopg://")


def _json_object(value: Any) -> Any:
    """Read an object from the environment, where it can only be text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise ValueError('expected a JSON object such as {"ada": "her key"}') from error


Keys = dict[Annotated[str, Field(min_length=1)], Annotated[SecretStr, Field(min_length=1)]]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Settings(BaseSettings):
    """What an operator can set, each as ``CHAINRULE_`` and the name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix="CHAINRULE_",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    host: str = "127.0.0.1"
    """The address to listen on; one that others can reach needs keys."""
    port: int = Field(default=8000, ge=1, le=65_535)
    """The port to listen on."""
    allowed_hosts: str = ""
    """Names that it answers to, with commas; unless given those of loopback, or any elsewhere."""
    home: Path = Path("var")
    """The folder for the database and the datasets, where these have no address of their own."""
    database_url: str = ""
    """`postgresql://…` or `sqlite:///…`; a SQLite file in `home` unless given."""
    broker_url: str = "memory://"
    """`redis://…`; `memory://` needs no broker: the worker looks into the database instead."""
    storage_url: str = ""
    """The place of the datasets: a folder or `s3://bucket/prefix`; in `home` unless given."""
    cache_limit_bytes: int = Field(default=10_240 * MIB, ge=0)
    """How much disk each host spends in `home` on copies of datasets from S3; 0 keeps none."""
    api_keys: Annotated[Keys, NoDecode, BeforeValidator(_json_object)] = {}
    """A JSON object of owner and key, each for everything; `keys create` makes finer ones."""
    upload_limit_bytes: int = Field(default=256 * MIB, ge=1)
    """The largest upload that is taken."""
    unpacked_limit_bytes: int = Field(default=1024 * MIB, ge=1)
    """The most that an upload may unpack to."""
    expansion_limit: float = Field(default=200, ge=1)
    """How many times its size an upload may unpack to, where that is more than 64 MiB."""
    column_limit: int = Field(default=MAX_COLUMNS, ge=1, le=MAX_COLUMNS)
    """How many columns an upload may have."""
    cell_limit: int = Field(default=250_000_000, ge=1)
    """How many values an upload may hold, a tensor counted as one; each is 8 bytes on disk."""
    body_limit_bytes: int = Field(default=16 * MIB, ge=1)
    """The largest JSON body that is taken; while it is read it takes up to 25 times as much."""
    body_seconds: Seconds = 300
    """How long a body may take to come in."""
    parameter_budget: int = Field(default=PARAMETER_BUDGET, ge=1)
    """How many weights and biases one network may have."""
    lease_seconds: Seconds = 30
    """A running job whose worker is silent for so long is given to another."""
    heartbeat_seconds: Seconds = 1
    """How often a worker reports progress and hears of a cancel."""
    reap_seconds: Seconds = 5
    """How often a worker looks for jobs whose worker is silent."""
    max_attempts: int = Field(default=3, ge=1, le=100)
    """A job fails once so many workers were lost over it."""
    backoff_seconds: float = Field(default=5, ge=0, le=86_400)
    """After a first lost worker a job is tried again at once, then so much later after each."""
    checkpoint_seconds: Seconds = 10
    """How often a running job is saved, so that another worker can go on from there."""
    stall_seconds: Seconds = 600
    """A training that makes no step for so long is taken for hung, and its process ended."""
    job_seconds: float = Field(default=604_800, gt=0, le=31_536_000)
    """How long one job may train, all attempts together."""
    job_memory_bytes: int = Field(default=4096 * MIB, ge=64 * MIB)
    """The memory one job may take beside an idle worker's; more is refused, or `out_of_memory`."""
    job_multiply_adds: int = Field(default=10**18, ge=1, lt=2**63)
    """The most arithmetic that one job may ask for, every epoch of it."""
    owner_datasets: int | None = Field(default=None, ge=0)
    """How many datasets one owner may keep; none of the `OWNER_` limits holds unless it is set."""
    owner_dataset_bytes: int | None = Field(default=None, ge=0)
    """How much room the datasets of one owner may take in the storage."""
    owner_queued_jobs: int | None = Field(default=None, ge=0)
    """How many jobs of one owner may wait, queued or paused; more are refused."""
    owner_running_jobs: int | None = Field(default=None, ge=1)
    """How many jobs of one owner run at once; the others wait."""
    owner_training_seconds: float | None = Field(default=None, gt=0)
    """How long the jobs of one owner may train within 24 hours, all together; then they wait."""
    owner_requests_per_minute: int | None = Field(default=None, ge=1, le=60_000)
    """How many requests one owner may make; so many at once, then at this rate."""
    failed_logins_per_minute: int = Field(default=20, ge=1, le=60_000)
    """How many unknown keys may come from one address; after that none from there is looked at."""
    proxies: int = Field(default=0, ge=0, le=10)
    """How many proxies before it add to `X-Forwarded-For`; callers' addresses are told by them."""
    blas_threads: int = Field(default=1, ge=1, le=1024)
    """Threads of one matrix product; another number changes the last bits of what is trained."""
    worker_concurrency: int = Field(default=1, ge=1, le=256)
    """How many jobs a worker trains at once, each in its own process."""
    api_workers: int = Field(default=1, ge=1, le=256)
    """How many processes serve HTTP."""
    api_threads: int = Field(default=16, ge=1, le=512)
    """How many requests each of these processes serves at once."""
    predictor_cache_bytes: int = Field(default=256 * MIB, ge=0)
    """How much memory each API process spends on models that were asked for before."""
    wait_limit_seconds: float = Field(default=60, ge=0, le=60)
    """The longest that a `?wait=` is held."""
    stream_limit_seconds: float = Field(default=600, gt=0, le=86_400)
    """A stream of events is closed after so long; its client goes on in a new one."""
    idempotency_hours: float = Field(default=24, gt=0, le=8_760)
    """How long the answer to an `Idempotency-Key` is kept."""
    retention_days: float | None = Field(default=None, gt=0, le=36_500)
    """Jobs that ended so many days ago are deleted by `prune`; unset, those of `--older-than`."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    """The least severe messages that are logged."""
    log_format: Literal["json", "console"] = "json"
    """`json` for machines, `console` for people."""

    @field_validator("database_url")
    @classmethod
    def _know_the_database(cls, url: str) -> str:
        if url and not url.startswith(SCHEMES):
            raise ValueError(f"expected a URL that starts with one of {', '.join(SCHEMES)}")
        return url

    @field_validator("broker_url")
    @classmethod
    def _know_the_broker(cls, url: str) -> str:
        if not url.startswith(BROKERS):
            raise ValueError(f"expected a URL that starts with one of {', '.join(BROKERS)}")
        return url

    @model_validator(mode="after")
    def _tell_owners_apart(self) -> Self:
        if len({key.get_secret_value() for key in self.api_keys.values()}) < len(self.api_keys):
            raise ValueError("two owners in CHAINRULE_API_KEYS share a key: give each its own")
        return self

    @model_validator(mode="after")
    def _beat_within_the_lease(self) -> Self:
        if self.lease_seconds < 2 * self.heartbeat_seconds:
            raise ValueError(
                f"a lease of {self.lease_seconds:g} s would end between heartbeats: set "
                f"CHAINRULE_LEASE_SECONDS to at least {2 * self.heartbeat_seconds:g}, "
                "or CHAINRULE_HEARTBEAT_SECONDS lower"
            )
        return self

    @property
    def host_names(self) -> frozenset[str]:
        """Names under which the service may be asked; none means any."""
        given = {name.strip().lower() for name in self.allowed_hosts.split(",")} - {""}
        if not given and not self.is_local:
            return frozenset()
        return frozenset({*LOOPBACK, self.host.lower(), *given})

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the service."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def resolved_database_url(self) -> str:
        """The database's URL, also where none is set."""
        return self.database_url or f"sqlite:///{self.home.resolve() / 'chainrule.db'}"

    @property
    def uploads_folder(self) -> Path:
        """Where uploads are written while they come in."""
        return self.home / "uploads"

    @property
    def scratch_folder(self) -> Path:
        """Where workers keep rows that are too many for memory; no file there has a name."""
        return self.home / "scratch"

    @property
    def cache_folder(self) -> Path:
        """Where copies lie of datasets that are kept elsewhere."""
        return self.home / "cache"

    @property
    def resolved_storage_url(self) -> str:
        """Where datasets are kept, also where nothing is set."""
        return self.storage_url or str(self.home.resolve() / "datasets")


def blas_variables() -> dict[str, str]:
    """Return what the environment wishes of the BLAS; `Settings.blas_threads` overrules it."""
    names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
    return {name: os.environ[name] for name in names if name in os.environ}  # noqa: TID251 - here is where


def ambient_secrets() -> list[str]:
    """Return the secrets that the client libraries take from the environment by themselves."""
    names = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PGPASSWORD")
    return [os.environ[name] for name in names if name in os.environ]  # noqa: TID251 - here is where


def unknown_variables() -> list[str]:
    """Return what is named like a setting and is none, such as one with a slip of the pen."""
    known = {f"CHAINRULE_{name.upper()}" for name in Settings.model_fields}
    mine = {name for name in os.environ if name.startswith("CHAINRULE_")}  # noqa: TID251 - here is where
    return sorted(mine - known)


def child_environment(**changes: str) -> dict[str, str]:
    """Return the environment for a process of the service, with other settings where given.

    Arrow uses the system's allocator: its own takes 1 GiB at the first read,
    touched or not, which `Settings.job_memory_bytes` would count.
    """
    changed = {f"CHAINRULE_{name.upper()}": value for name, value in changes.items()}
    return {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system", **changed}  # noqa: TID251 - here is where
