"""Datasets: upload, look, delete."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, get_args

from flask import Response, abort, request, url_for
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import ValidationError
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from app.api import once, schemas
from app.api.bodies import once_each
from app.api.conditional import answer, answer_json, answer_tagged, unless_changed
from app.api.errors import BodyError, invalid
from app.api.pages import answer_page
from app.api.services import owner, reading, services, writing
from app.store import datasets, quotas, uploads
from app.store.blobs import sealed
from app.store.errors import QuotaError
from app.store.tables import Dataset, new_id
from engine.data import formats
from engine.data.formats import Compression, Format
from engine.data.profiling import profile

bp = APIBlueprint("datasets", __name__, url_prefix="/v1/datasets", abp_tags=[Tag(name="Datasets")])

MEDIA_TYPES: dict[str, Format] = {
    "text/csv": "csv",
    "text/tab-separated-values": "tsv",
    "application/x-npz": "npz",
}
SUFFIXES: dict[str, Format] = {".csv": "csv", ".tsv": "tsv", ".npz": "npz"}
MAGIC: dict[bytes, Compression] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
PACKED_SUFFIXES = (".gz", ".zst")
PIECE_BYTES = 1 << 20

_UPLOAD_BODY = {
    "required": True,
    "description": "A table; gzip and zstd are unpacked.",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": {"type": "string", "format": "binary"},
                    "name": {"type": "string", "minLength": 1, "maxLength": 200},
                    "format": {"type": "string", "enum": list(get_args(Format))},
                },
            }
        },
        **{
            media_type: {"schema": {"type": "string", "format": "binary"}}
            for media_type in MEDIA_TYPES
        },
    },
}


@dataclass(frozen=True)
class Received:
    """An upload on disk, not yet looked into."""

    path: Path
    bytes: int
    sha256: str
    name: str
    format: Format

    @property
    def fingerprint(self) -> str:
        """All that makes one upload another than the next."""
        return f"{self.sha256} {self.format} {self.name}"


@bp.post(
    "",
    responses={201: schemas.Dataset},
    openapi_extensions={"requestBody": _UPLOAD_BODY},
)
def upload(query: schemas.UploadQuery) -> Response:
    """Upload a dataset, as a form with `file` or as the raw bytes."""
    with uploads.folder(services().scratch) as folder:
        received = _receive(folder, query)
        if (replayed := once.begin(received.fingerprint)) is not None:
            return replayed
        try:
            return _keep(received, folder)
        except BaseException:
            once.abandon()
            raise


def _receive(folder: Path, query: schemas.UploadQuery) -> Received:
    if request.mimetype == "multipart/form-data":
        return _receive_form(folder, query)
    if request.mimetype not in MEDIA_TYPES:
        known = ", ".join(["multipart/form-data", *MEDIA_TYPES])
        raise UnsupportedMediaType(f"expected one of {known}; got {request.mimetype or 'none'!r}")
    size, digest = _write(request.stream, folder / "upload")
    kind = MEDIA_TYPES[request.mimetype]
    return Received(folder / "upload", size, digest, query.name or f"untitled.{kind}", kind)


def _receive_form(folder: Path, query: schemas.UploadQuery) -> Received:
    files = list(request.files.items(multi=True))
    if [field for field, _ in files] != ["file"] or not files[0][1].filename:
        raise BadRequest("expected one file with a filename, in the form's field `file`")
    once_each(request.form, "the form")
    try:
        form = schemas.UploadForm.model_validate(request.form.to_dict())
    except ValidationError as error:
        abort(invalid(error))
    filename = _label(files[0][1].filename)
    kind = form.format or _format_of(filename)
    size, digest = _write(files[0][1].stream, folder / "upload")
    name = form.name or query.name or filename
    return Received(folder / "upload", size, digest, name, kind)


def _label(filename: str) -> str:
    """Make a filename fit to be shown; it is never a path here."""
    return "".join(c if c.isprintable() else "_" for c in filename)[-200:]


def _format_of(filename: str) -> Format:
    stem = Path(filename.lower())
    suffix = Path(stem.stem).suffix if stem.suffix in PACKED_SUFFIXES else stem.suffix
    if suffix not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        reason = f"cannot tell the format of {filename[:100]!r}; end its name in {known}"
        raise BodyError("/format", f"{reason} or send `format`")
    return SUFFIXES[suffix]


def _write(body: IO[bytes], path: Path) -> tuple[int, str]:
    """Stream a body to disk; return its size and sha256."""
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as out:
        while piece := body.read(PIECE_BYTES):
            out.write(piece)
            digest.update(piece)
            size += len(piece)
    return size, digest.hexdigest()


def _keep(received: Received, folder: Path) -> Response:
    """Read the upload into an Arrow file, store it under a new name, and add its row.

    Equal uploads do not share a file: one could be deleted while the other is on its way.
    """
    with reading() as session:  # before the work is done for nothing
        quotas.check_dataset(session, owner(), services().quotas, more_bytes=1)
    limit = services().settings.unpacked_limit_bytes
    source = _unpacked(received.path, folder, limit)
    arrow = folder / "table.arrow"
    table = formats.ingest(source, received.format, arrow, memory_limit_bytes=limit)
    location = sealed(new_id("table"), arrow)
    services().storage.put(arrow, location)
    columns = [dataclasses.asdict(column) for column in profile(table)]
    try:
        with writing() as session:
            dataset = datasets.add(
                session,
                owner=owner(),
                name=received.name,
                format=received.format,
                rows=table.rows,
                bytes=received.bytes,
                sha256=received.sha256,
                columns=columns,
                location=location,
                stored_bytes=arrow.stat().st_size,
                quotas=services().quotas,
            )
            where = url_for("datasets.show", dataset_id=dataset.id)
            response = answer(resource(dataset), 201, where)
            if (key := once.sent_key()) is not None:
                once.keep(session, key, response)
    except QuotaError:
        services().storage.delete(location)
        raise
    return response


def _unpacked(path: Path, folder: Path, limit_bytes: int) -> Path:
    with path.open("rb") as file:
        start = file.read(4)
    for magic, compression in MAGIC.items():
        if start.startswith(magic):
            formats.decompress(path, folder / "unpacked", compression, limit_bytes)
            return folder / "unpacked"
    return path


def resource(dataset: Dataset) -> schemas.Dataset:
    """Describe a dataset to a caller."""
    return schemas.Dataset(
        id=dataset.id,
        name=dataset.name,
        format=dataset.format,
        rows=dataset.rows,
        bytes=dataset.bytes,
        sha256=dataset.sha256,
        stored_bytes=dataset.stored_bytes,
        created_at=dataset.created_at,
        columns=[schemas.ColumnProfile.model_validate(column) for column in dataset.columns],
    )


@bp.get("", responses={200: schemas.DatasetPage})
def index(query: schemas.PageQuery) -> Response:
    """List the datasets, newest first."""
    with reading() as session:
        page = datasets.page(session, owner(), limit=query.limit, cursor=query.cursor)
        data = [resource(dataset) for dataset in page.items]
    body = schemas.DatasetPage(data=data, next_cursor=page.next_cursor)
    return answer_page(body, page.next_cursor)


@bp.get("/<dataset_id>", responses={200: schemas.Dataset})
def show(path: schemas.DatasetPath) -> Response:
    """Show a dataset with a profile of its columns."""
    dataset = _get(path.dataset_id)
    return answer_tagged(resource(dataset), dataset.id)


@bp.get("/<dataset_id>/rows", responses={200: schemas.Rows})
def rows(path: schemas.DatasetPath, query: schemas.RowsQuery) -> Response:
    """Show the first rows."""
    with file_of(path.dataset_id) as file:
        return answer_json({"data": formats.first_rows(file, query.limit)})


@contextmanager
def file_of(dataset_id: str) -> Iterator[Path]:
    """Give the path of a dataset's file for a while; one that is deleted meanwhile is not found."""
    location = _get(dataset_id).location
    try:
        with services().storage.local(location) as file:
            yield file
    except FileNotFoundError:
        _get(dataset_id)
        raise


def _get(dataset_id: str) -> Dataset:
    with reading() as session:
        return datasets.get(session, owner(), dataset_id)


@bp.delete("/<dataset_id>", responses={204: None})
def remove(path: schemas.DatasetPath) -> tuple[str, int]:
    """Delete a dataset that no live job uses."""
    with writing() as session:
        location = datasets.remove(session, owner(), path.dataset_id)
        unless_changed(path.dataset_id)
    services().storage.delete(location)
    return "", 204
