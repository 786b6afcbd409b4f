"""Whatever reads what strangers send, each as a function of bytes that may refuse but not fail."""

from __future__ import annotations

import atexit
import gzip
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from flask import Flask
from PIL import Image
from pydantic import ValidationError

from app.api import schemas
from app.config import MIB, Settings
from app.factory import create_app
from app.store import migrate
from app.store.database import Database
from engine.data.formats import compression, stored
from engine.data.formats.ingestion import ingest
from engine.data.formats.kinds import Compression, Format, Limits
from engine.data.profiling import ColumnProfile
from engine.errors import EngineError, FormatError
from engine.footprint import check_memory
from engine.resolution import resolve
from engine.spec import PARAMETER_BUDGET, TrainingSpec

EXAMPLES = Path(__file__).parents[2] / "examples" / "data"
IRIS = (EXAMPLES / "iris.csv").read_bytes()
LIMIT_BYTES = 16 * MIB
"""What an upload may unpack to."""

LIMITS = Limits(cells=10**6, unpacked_bytes=LIMIT_BYTES)

Target = Callable[[bytes], None]


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="chainrule-fuzz-"))
    atexit.register(shutil.rmtree, folder)
    return folder


def _ingest(data: bytes, file_format: Format) -> None:
    """Read an upload; what is taken can be profiled, read again, and shown as JSON."""
    source, kept = _folder() / "upload", _folder() / "table.arrow"
    source.write_bytes(data)
    try:
        table = ingest(source, file_format, kept, LIMITS)
    except FormatError:
        return
    again = stored.read_table(kept)
    assert (again.rows, len(again.columns)) == (table.rows, len(table.columns))
    assert len(stored.first_rows(kept, 5)) == min(5, table.rows)
    for column in table.columns:
        json.dumps(schemas.ColumnProfile.model_validate(vars(column)).model_dump(mode="json"))


def csv(data: bytes) -> None:
    """A table with commas."""
    _ingest(data, "csv")


def tsv(data: bytes) -> None:
    """A table with tabs."""
    _ingest(data, "tsv")


def npz(data: bytes) -> None:
    """An archive of arrays."""
    _ingest(data, "npz")


def ndjson(data: bytes) -> None:
    """An object on every line."""
    _ingest(data, "ndjson")


def json_array(data: bytes) -> None:
    """Objects in an array."""
    _ingest(data, "json")


def parquet(data: bytes) -> None:
    """A Parquet file."""
    _ingest(data, "parquet")


def arrow(data: bytes) -> None:
    """A file or a stream of Arrow's."""
    _ingest(data, "arrow")


def images(data: bytes) -> None:
    """A ZIP of images in folders."""
    _ingest(data, "images")


def npy(data: bytes) -> None:
    """An array, in an archive that is as it should be."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("X.npy", data)
    _ingest(packed.getvalue(), "npz")


def _unpack(data: bytes, how: Compression) -> None:
    source, unpacked = _folder() / "packed", _folder() / "unpacked"
    source.write_bytes(data)
    try:
        compression.decompress(source, unpacked, how, LIMITS)
    except FormatError:
        assert not unpacked.exists() or unpacked.stat().st_size <= LIMIT_BYTES


def gzip_file(data: bytes) -> None:
    """A file packed with gzip."""
    _unpack(data, "gzip")


def zstd_file(data: bytes) -> None:
    """A file packed with zstd."""
    _unpack(data, "zstd")


def spec(data: bytes) -> None:
    """A job. What is taken can be sent back, and means the same."""
    try:
        body = _app().json.loads(data)
        asked = schemas.JobRequest.model_validate(body)
        spec = _resolve(
            asked.model_dump(include=set(TrainingSpec.model_fields), exclude_unset=True)
        )
    except (ValueError, ValidationError, EngineError):
        return
    sent_back = json.loads(json.dumps(spec.model_dump(mode="json"), allow_nan=False))
    assert _resolve(sent_back) == spec


def _resolve(asked: dict[str, Any]) -> TrainingSpec:
    columns, rows = _iris()
    spec = resolve(TrainingSpec.model_validate(asked), columns, rows, PARAMETER_BUDGET, columns)
    check_memory(spec, columns, rows, 4096 * MIB, rows)
    return spec


@cache
def _iris() -> tuple[list[ColumnProfile], int]:
    kept = _folder() / "iris.arrow"
    table = ingest(EXAMPLES / "iris.csv", "csv", kept)
    return table.columns, table.rows


@cache
def _app() -> Flask:
    home = _folder() / "home"
    home.mkdir()
    settings = Settings(home=home, upload_limit_bytes=LIMIT_BYTES, log_level="CRITICAL")
    database = Database(settings.resolved_database_url)
    migrate.upgrade(database)
    database.dispose()
    return create_app(settings)


def form(data: bytes) -> None:
    """A form with a file, whose boundary is ``b``."""
    caller = _app().test_client()
    kind = "multipart/form-data; boundary=b"
    answer = caller.post("/v1/datasets", data=data, content_type=kind)
    if answer.status_code == 201:
        caller.delete(answer.headers["Location"])
        return
    _is_a_refusal(answer.status_code, answer.data)


def request(data: bytes) -> None:
    """A request: a line for method and address, one for each header, and after a blank the body."""
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.decode("latin-1").split("\n")
    method, _, address = first.partition(" ")
    path, _, query = address.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method or "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "CONTENT_LENGTH": str(len(body)),
    }
    for line in lines:
        name, _, value = line.partition(":")
        key = name.upper().replace("-", "_")
        environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value.strip()
    if environ.get("HTTP_ACCEPT", "").startswith("text/event-stream"):
        return  # it would be followed to its end
    told: list[str] = []
    pieces = _app()(environ, lambda status, _headers, _error=None: told.append(status))
    try:
        said = b"".join(pieces)
    finally:
        pieces.close()  # type: ignore[attr-defined]
    status = int(told[0][:3])
    if status >= 400 and method != "HEAD":
        _is_a_refusal(status, said)


def _is_a_refusal(status: int, said: bytes) -> None:
    problem = orjson.loads(said)
    assert 400 <= status < 500, problem
    assert problem["status"] == status
    assert problem["detail"]


TARGETS: dict[str, Target] = {
    "csv": csv,
    "tsv": tsv,
    "ndjson": ndjson,
    "json": json_array,
    "parquet": parquet,
    "arrow": arrow,
    "images": images,
    "npz": npz,
    "npy": npy,
    "gzip": gzip_file,
    "zstd": zstd_file,
    "spec": spec,
    "form": form,
    "request": request,
}


def _array(array: Any) -> bytes:
    packed = io.BytesIO()
    np.save(packed, array, allow_pickle=False)
    return packed.getvalue()


def _written(write: Callable[[pa.Table, io.BytesIO], None]) -> bytes:
    packed = io.BytesIO()
    write(_COLUMNS, packed)
    return packed.getvalue()


def _stream(table: pa.Table, out: io.BytesIO) -> None:
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)


def _feather(table: pa.Table, out: io.BytesIO) -> None:
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(out, table.schema, options=options) as writer:
        writer.write_table(table)


def _images() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in ("a/0.png", "b/1.png"):
            image = io.BytesIO()
            Image.new("L", (3, 2)).save(image, "PNG")
            archive.writestr(name, image.getvalue())
    return packed.getvalue()


_COLUMNS = pa.table(
    {
        "x": pa.array([1.5, None, 3.0]),
        "word": pa.array(["a", None, "1,5"]),
        "coded": pa.array(["b", "c", "b"]).dictionary_encode(),
        "flag": pa.array([True, False, None]),
        "time": pa.array([0, 1, 2], pa.timestamp("ms", "UTC")),
    }
)


def _archive(**arrays: Any) -> bytes:
    packed = io.BytesIO()
    np.savez_compressed(packed, allow_pickle=False, **arrays)
    return packed.getvalue()


_TABLE = b'a,b,c,d\n1,2.5,x,2020-01-01T00:00:00\n,nan,"y, ""z""",12:30\ntrue,1e999,"two\nlines",\n'
_FORM = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.csv"\r\n\r\na,b\n1,2\n\r\n'
    b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nirises\r\n--b--\r\n'
)
_LAYERS = [
    {"type": "dense", "units": 4, "activation": "relu", "initializer": "he_normal"},
    {"type": "dropout", "rate": 0.1},
    {"type": "batch_norm"},
]
_SPECS: list[dict[str, Any]] = [
    {"dataset": "ds_1", "target": "species"},
    {
        "dataset": "ds_1",
        "target": ["sepal_length", "sepal_width"],
        "features": ["species", "petal_width"],
        "task": "regression",
        "network": {"layers": _LAYERS},
        "loss": {"type": "huber", "delta": 1.5},
        "optimizer": {"type": "sgd", "learning_rate": 0.1, "momentum": 0.9},
        "schedule": {"type": "step", "epochs": 3, "factor": 0.5},
        "training": {"epochs": 9, "batch_size": "full", "stop": {"patience": 3}},
        "validation": {"folds": 5},
        "seed": 7,
        "precision": "float64",
        "metadata": {"any": ["thing", None, 1.5]},
    },
]

SEEDS: dict[str, list[bytes]] = {
    "csv": [
        IRIS[:400],
        _TABLE,
        b"a;b\n1,5;$1.234\n5%;'\n",
        "a|b\n1.2.2026|ä\n30.2.2026|?\n".encode("utf-16"),
        b"\xef\xbb\xbfa\n1\n",
        b"a\r\n1\r\n",
        b"d,e,b\n2026-01-31,1/31/2026,Yes\n2026-02-30,2/30/2026,NO\n2026-03-01,31/1/2026,y\n",
        b'x,y\nyes,"1,234"\nNo,"5" b"\n',
    ],
    "tsv": [IRIS[:400].replace(b",", b"\t"), _TABLE.replace(b",", b"\t")],
    "ndjson": [b'{"x": 1, "c": "a"}\n{"x": null, "b": true}\n', b'{"t": "1.2.2026"}'],
    "json": [b'[{"x": 1, "c": "a"},\n {"x": -1.5e3, "b": true}]', b'{"t": "5 %"} {"t": "7"}'],
    "parquet": [_written(pq.write_table)],
    "arrow": [_written(_stream), _written(_feather)],
    "images": [_images()],
    "npz": [
        _archive(X=np.zeros((3, 2, 2), "f4"), y=np.arange(3)),
        _archive(a=np.array(["x", "y"]), b=np.array([True, False])),
    ],
    "npy": [
        _array(np.zeros((3, 2), "<f8")),
        _array(np.asfortranarray(np.ones((2, 3), "i2"))),
        _array(np.array(["x", "yy"])),
    ],
    "gzip": [gzip.compress(IRIS[:400], mtime=0), gzip.compress(b"", mtime=0) * 2],
    "zstd": [pa.compress(IRIS[:400], "zstd", asbytes=True)],
    "spec": [json.dumps(body).encode() for body in _SPECS],
    "form": [_FORM],
    "request": [
        b"GET /v1/datasets?limit=5&cursor=ZHNfMQ",
        b'GET /v1/jobs?status=queued&name=x\nIf-None-Match: "x"\nTraceparent: 00-1-2-01',
        b"GET /v1/models/mdl_1/weights?format=npz\nRange: bytes=0-5\nAccept: */*",
        b"GET /v1/jobs/job_1/curve?since=5\nAccept: image/png;q=0.5, text/csv",
        b"POST /v1/jobs\nContent-Type: application/json\nIdempotency-Key: k\n\n{}",
        b"POST /v1/datasets?name=x\nContent-Type: text/csv\nContent-Encoding: gzip\n\na\n1\n",
        b"DELETE /v1/keys/key_1\nHost: localhost:80\nAuthorization: Bearer x\nX-Request-Id: y",
        b"GET /docs/assets/%2e%2e/x\nIf-Modified-Since: Tue, 24 Nov 2026 00:00:00 GMT",
    ],
}
"""What is mutated, to begin with."""
