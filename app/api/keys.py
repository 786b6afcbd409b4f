"""Keys, for administrators: make, look, revoke."""

from __future__ import annotations

from flask import Response, url_for
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from sqlalchemy.orm import Session

from app.api import schemas
from app.api.conditional import answer, answer_tagged, unless_changed
from app.api.once import once
from app.api.pages import answer_page
from app.api.services import services
from app.store import keys
from app.store.tables import ApiKey

bp = APIBlueprint("keys", __name__, url_prefix="/v1/keys", abp_tags=[Tag(name="Keys")])


@bp.post("", responses={201: schemas.NewKey})
def create(body: schemas.KeyRequest) -> Response:
    """Make a key. It is shown this once: an answer that is repeated does without it."""
    made: list[schemas.NewKey] = []

    def work(session: Session) -> Response:
        key, token = keys.create(
            session,
            owner=body.owner,
            name=body.name,
            scopes=body.scopes,
            expires_at=body.expires_at,
        )
        described = schemas.NewKey(**dict(resource(key)))
        made.append(described.model_copy(update={"key": token}))
        return answer(described, 201, url_for("keys.show", key_id=key.id))

    response = once(work, services().database.writing)
    if made:
        response.set_data(made[0].model_dump_json())
    return response


def resource(key: ApiKey) -> schemas.Key:
    """Describe a key."""
    return schemas.Key(
        id=key.id,
        owner=key.owner,
        name=key.name,
        scopes=key.scopes,
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        used_at=key.used_at,
    )


@bp.get("", responses={200: schemas.KeyPage})
def index(query: schemas.KeysQuery) -> Response:
    """List the keys, newest first, also those that open nothing any more."""
    with services().database.reading() as session:
        page = keys.page(session, limit=query.limit, cursor=query.cursor, owner=query.owner)
        data = [resource(key) for key in page.items]
    body = schemas.KeyPage(data=data, next_cursor=page.next_cursor)
    return answer_page(body, page.next_cursor)


@bp.get("/<key_id>", responses={200: schemas.Key})
def show(path: schemas.KeyPath) -> Response:
    """Show whose a key is, what it is for, and when it was last used."""
    with services().database.reading() as session:
        key = keys.get(session, path.key_id)
    return answer_tagged(resource(key), _tag(key))


def _tag(key: ApiKey) -> str:
    return f"{key.id}.{key.revoked_at or ''}.{key.used_at or ''}"


@bp.delete("/<key_id>", responses={204: None})
def revoke(path: schemas.KeyPath) -> tuple[str, int]:
    """Revoke a key: it opens nothing from now on, and stays in the list."""
    with services().database.writing() as session:
        tag = _tag(keys.get(session, path.key_id))
        keys.revoke(session, path.key_id)
        unless_changed(tag)
    return "", 204
