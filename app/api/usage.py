"""Usage: what the caller has, and may have."""

from __future__ import annotations

from dataclasses import asdict

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.api import schemas
from app.api.conditional import answer
from app.api.services import owner, reading, services
from app.store import quotas

bp = APIBlueprint("usage", __name__, url_prefix="/v1/usage", abp_tags=[Tag(name="Usage")])


@bp.get("", responses={200: schemas.Usage})
def show() -> Response:
    """Show what the caller has and may have."""
    with reading() as session:
        used, limits = asdict(quotas.usage(session, owner())), asdict(services().quotas)
    shares = {name: schemas.Share(used=used[name], limit=limits[name]) for name in used}
    return answer(schemas.Usage(**shares))
