"""Uploads: a body that is a file is received, read into an Arrow file, and kept as a dataset."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from flask import Response, abort, request
from pydantic import ValidationError
from sqlalchemy.orm import Session
from werkzeug.exceptions import BadRequest, UnsupportedMediaType
from werkzeug.formparser import FormDataParser

from app.api import once, schemas
from app.api.bodies import once_each
from app.api.digests import DigestedBody
from app.api.errors import BodyError, invalid
from app.api.services import owner, reading, services, writing
from app.config import VERSION
from app.store import datasets, quotas
from app.store.datasets import Contents
from app.store.errors import CorruptFileError, QuotaError
from app.store.seals import sealed
from app.store.tables import Dataset, new_id
from app.store.uploads import HashedFile
from engine.data.formats.compression import decompress
from engine.data.formats.ingestion import ingest
from engine.data.formats.kinds import Compression, Format, Limits, Options

MEDIA_TYPES: dict[str, Format] = {
    "text/csv": "csv",
    "text/tab-separated-values": "tsv",
    "application/x-ndjson": "ndjson",
    "application/json": "json",
    "application/vnd.apache.parquet": "parquet",
    "application/vnd.apache.arrow.file": "arrow",
    "application/vnd.apache.arrow.stream": "arrow",
    "application/x-npz": "npz",
    "application/zip": "images",
}
SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".txt": "csv",
    ".tsv": "tsv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".npz": "npz",
    ".zip": "images",
}
MAGIC: dict[bytes, Compression] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
PACKED_SUFFIXES = (".gz", ".zst")
PIECE_BYTES = 1 << 20
ONE_FILE = "expected one file with a filename, in the form's field `file`"


@dataclass(frozen=True)
class Received:
    """An upload on disk, not yet looked into."""

    path: Path
    bytes: int
    sha256: str
    name: str
    format: Format
    options: schemas.UploadOptions

    @property
    def fingerprint(self) -> str:
        """All that makes one upload another than the next."""
        return f"{self.origin} {self.name}"

    @property
    def origin(self) -> str:
        """All that the table depends on which is made of it."""
        said = self.options.model_dump(mode="json", exclude_unset=True)
        parts = [VERSION, self.sha256, self.format, said]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


Said = tuple[str, Format, schemas.UploadOptions]
"""A dataset's name, the format of its file, and what is said of that."""


def receive(folder: Path, query: schemas.UploadQuery) -> Received:
    """Write the request's file to the folder, once, and tell what is said of it."""
    body = DigestedBody(request.stream, request.headers.get("Content-Digest"))
    files: list[HashedFile] = []

    def begin(*_args: Any, **_facts: Any) -> HashedFile:
        if files:
            raise BadRequest(ONE_FILE)
        files.append(stack.enter_context(HashedFile(folder / "upload")))
        return files[0]

    with ExitStack() as stack:
        is_form = request.mimetype == "multipart/form-data"
        name, kind, options = (_receive_form if is_form else _receive_raw)(body, begin, query)
    body.check()
    [file] = files
    return Received(file.path, file.bytes, file.sha256, name, kind, options)


def _receive_raw(
    body: DigestedBody, begin: Callable[..., HashedFile], query: schemas.UploadQuery
) -> Said:
    if request.mimetype not in MEDIA_TYPES:
        known = ", ".join(["multipart/form-data", *MEDIA_TYPES])
        raise UnsupportedMediaType(f"expected one of {known}; got {request.mimetype or 'none'!r}")
    shutil.copyfileobj(body, begin(), PIECE_BYTES)
    kind = MEDIA_TYPES[request.mimetype]
    return query.name or f"untitled.{kind}", kind, query.options or schemas.UploadOptions()


def _receive_form(
    body: DigestedBody, begin: Callable[..., HashedFile], query: schemas.UploadQuery
) -> Said:
    parser = FormDataParser(
        begin,
        max_form_memory_size=request.max_form_memory_size,
        max_form_parts=request.max_form_parts,
    )
    about = (request.mimetype, request.content_length, request.mimetype_params)
    _, fields, files = parser.parse(cast(IO[bytes], body), *about)  # which only reads
    file = files.get("file")
    if file is None or not file.filename:
        raise BadRequest(ONE_FILE)
    once_each(fields, "the form")
    try:
        form = schemas.UploadForm.model_validate(fields.to_dict())
    except ValidationError as error:
        abort(invalid(error))
    filename = _label(file.filename)
    kind = form.format or _format_of(filename)
    options = form.options or query.options or schemas.UploadOptions()
    return form.name or query.name or filename, kind, options


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


def keep(received: Received, folder: Path, created: Callable[[Dataset], Response]) -> Response:
    """Add a dataset, and answer with what ``created`` returns.

    An upload that equals one of the owner's shares its file. Other owners'
    are not looked at: nobody learns what they have.
    """
    with reading() as session:  # before the work is done for nothing
        quotas.check_dataset(session, owner(), services().quotas, more_bytes=1)
        twin = datasets.twin(session, owner(), received.origin)
    is_damaged = twin is not None and not _is_whole(twin.location)
    if twin is not None and not is_damaged:
        with writing() as session:
            twin = datasets.lasting_twin(session, owner(), received.origin)
            if twin is not None:
                return _add(session, received, twin, created)
    return _keep_anew(received, folder, created, twin.location if twin is not None else None)


def _keep_anew(
    received: Received,
    folder: Path,
    created: Callable[[Dataset], Response],
    damaged: str | None,
) -> Response:
    """Read an upload into a file of its own; of equal ones at the same time one file is kept."""
    made = kept = _make(received, folder)
    try:
        with writing() as session:
            twin = datasets.lasting_twin(session, owner(), received.origin)
            if twin is not None and twin.location != damaged:
                kept = twin
            response = _add(session, received, kept, created)
    except QuotaError:
        services().storage.delete(made.location)
        raise
    if kept is not made:
        services().storage.delete(made.location)
    return response


def _is_whole(location: str) -> bool:
    try:
        with services().storage.local(location, check=True):
            return True
    except (CorruptFileError, FileNotFoundError):
        return False


def _make(received: Received, folder: Path) -> Contents:
    """Read an upload into an Arrow file, and store it under a new name."""
    settings = services().settings
    limits = Limits(
        settings.cell_limit,
        settings.unpacked_limit_bytes,
        settings.expansion_limit,
        settings.column_limit,
    )
    source = _unpacked(received.path, folder, limits)
    arrow = folder / "table.arrow"
    options = Options(**received.options.model_dump(exclude_unset=True))
    table = ingest(source, received.format, arrow, limits, options)
    made = Contents(
        rows=table.rows,
        columns=[dataclasses.asdict(column) for column in table.columns],
        sniffed=dict(table.sniffed),
        location=sealed(new_id("table"), arrow),
        stored_bytes=arrow.stat().st_size,
    )
    services().storage.put(arrow, made.location, move=True)
    return made


def _add(
    session: Session,
    received: Received,
    contents: Contents,
    created: Callable[[Dataset], Response],
) -> Response:
    dataset = datasets.add(
        session,
        owner=owner(),
        name=received.name,
        format=received.format,
        bytes=received.bytes,
        sha256=received.sha256,
        origin=received.origin,
        quotas=services().quotas,
        **vars(contents),
    )
    response = created(dataset)
    if (key := once.sent_key()) is not None:
        once.keep(session, key, response)
    return response


def _unpacked(path: Path, folder: Path, limits: Limits) -> Path:
    with path.open("rb") as file:
        start = file.read(4)
    for magic, compression in MAGIC.items():
        if start.startswith(magic):
            decompress(path, folder / "unpacked", compression, limits)
            return folder / "unpacked"
    return path
