"""Datasets: upload, look, delete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from flask import Response, url_for
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.api import once, schemas
from app.api.conditional import answer, answer_json, answer_tagged, unless_changed
from app.api.pages import answer_page
from app.api.services import owner, reading, services, writing
from app.api.uploads import MEDIA_TYPES, keep, receive
from app.store import datasets, uploads
from app.store.tables import Dataset
from engine.data.formats import stored
from engine.data.formats.kinds import Format

bp = APIBlueprint("datasets", __name__, url_prefix="/v1/datasets", abp_tags=[Tag(name="Datasets")])

_UPLOAD_BODY = {
    "required": True,
    "description": "A table; gzip and zstd are unpacked. `Content-Digest` is checked.",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": {"type": "string", "format": "binary"},
                    "name": {"type": "string", "minLength": 1, "maxLength": 200},
                    "format": {"type": "string", "enum": list(get_args(Format))},
                    "options": {
                        "type": "string",
                        "contentMediaType": "application/json",
                        "contentSchema": {"$ref": "#/components/schemas/UploadOptions"},
                    },
                },
            }
        },
        **{
            media_type: {"schema": {"type": "string", "format": "binary"}}
            for media_type in MEDIA_TYPES
        },
    },
}


@bp.post(
    "",
    responses={201: schemas.Dataset},
    openapi_extensions={"requestBody": _UPLOAD_BODY},
)
def upload(query: schemas.UploadQuery) -> Response:
    """Upload a dataset, as a form with `file` or as the raw bytes."""
    with uploads.folder(services().scratch) as folder:
        received = receive(folder, query)
        if (replayed := once.begin(received.fingerprint)) is not None:
            return replayed
        try:
            return keep(received, folder, _created)
        except BaseException:
            once.abandon()
            raise


def _created(dataset: Dataset) -> Response:
    return answer(resource(dataset), 201, url_for("datasets.show", dataset_id=dataset.id))


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
        sniffed=dataset.sniffed or {},
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
        return answer_json({"data": stored.first_rows(file, query.limit)})


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
    if location is not None:
        services().storage.delete(location)
    return "", 204
