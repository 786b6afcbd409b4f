"""Names: give one to a model, look, roll back, delete."""

from __future__ import annotations

from flask import Response, url_for
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from sqlalchemy.orm import Session

from app.api import schemas
from app.api.conditional import answer, answer_tagged, unless_changed
from app.api.once import once
from app.api.pages import answer_page
from app.api.services import owner, reading, writing
from app.store import names
from app.store.errors import NotFoundError
from app.store.tables import ModelName, NameSwitch

bp = APIBlueprint("names", __name__, url_prefix="/v1/names", abp_tags=[Tag(name="Names")])


@bp.get("", responses={200: schemas.ModelNamePage})
def index(query: schemas.PageQuery) -> Response:
    """List the names, newest first."""
    with reading() as session:
        page = names.page(session, owner(), limit=query.limit, cursor=query.cursor)
        data = [resource(name) for name in page.items]
    body = schemas.ModelNamePage(data=data, next_cursor=page.next_cursor)
    return answer_page(body, page.next_cursor)


@bp.put("/<name>", responses={200: schemas.ModelName, 201: schemas.ModelName})
def switch(path: schemas.NamePath, body: schemas.NameRequest) -> Response:
    """Give the name to a model: from one request to the next it is this one."""
    with writing() as session:
        try:
            tag = _tag(names.get(session, owner(), path.name, lock=True))
        except NotFoundError:
            tag = None
        name = names.switch(session, owner(), path.name, body.model)
        unless_changed(tag or "")
        status = 201 if tag is None else 200
        where = url_for("names.show", name=path.name) if tag is None else None
        return answer(resource(name), status, where)


@bp.get("/<name>", responses={200: schemas.ModelName})
def show(path: schemas.NamePath) -> Response:
    """Show which model has a name."""
    with reading() as session:
        name = names.get(session, owner(), path.name)
        return answer_tagged(resource(name), _tag(name))


def _tag(name: ModelName) -> str:
    return f"{name.id}.{name.version}"


def resource(name: ModelName) -> schemas.ModelName:
    """Describe a name to a caller."""
    return schemas.ModelName(
        name=name.name,
        model=name.model_id,
        version=name.version,
        created_at=name.created_at,
        updated_at=name.updated_at,
    )


@bp.get("/<name>/history", responses={200: schemas.NameHistory})
def history(path: schemas.NamePath, query: schemas.PageQuery) -> Response:
    """List which models had a name, the one that has it first."""
    with reading() as session:
        page = names.history(session, owner(), path.name, limit=query.limit, cursor=query.cursor)
        data = [_switched(each) for each in page.items]
    body = schemas.NameHistory(data=data, next_cursor=page.next_cursor)
    return answer_page(body, page.next_cursor)


def _switched(switch: NameSwitch) -> schemas.NameSwitch:
    return schemas.NameSwitch(
        version=switch.version,
        model=switch.model_id,
        replaced=switch.replaced,
        job=switch.job_id,
        created_at=switch.created_at,
    )


@bp.post("/<name>/rollback", responses={200: schemas.ModelName})
def roll_back(path: schemas.NamePath) -> Response:
    """Give the name back to the model that had it before the last switch."""

    def work(session: Session) -> Response:
        tag = _tag(names.get(session, owner(), path.name, lock=True))
        name = names.roll_back(session, owner(), path.name)
        unless_changed(tag)
        return answer(resource(name))

    return once(work)


@bp.delete("/<name>", responses={204: None})
def remove(path: schemas.NamePath) -> tuple[str, int]:
    """Delete a name and its history; the model stays."""
    with writing() as session:
        tag = _tag(names.get(session, owner(), path.name, lock=True))
        names.remove(session, owner(), path.name)
        unless_changed(tag)
    return "", 204
