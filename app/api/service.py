"""The service itself: health, the OpenAPI document, and its page."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from importlib.resources import files

from flask import Response, current_app, make_response, render_template_string
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from markupsafe import Markup

from app.api import schemas
from app.api.conditional import answer_json
from app.api.services import services

ASSETS = str(files("flask_openapi3_swagger").joinpath("templates/swagger"))
"""Swagger UI as its package ships it; the page loads nothing from elsewhere."""

bp = APIBlueprint(
    "service",
    __name__,
    static_folder=ASSETS,
    static_url_path="/docs/assets",
    abp_tags=[Tag(name="Service")],
)

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Chainrule API</title>
<link rel="icon" href="{{ url_for('service.static', filename='images/swagger.svg') }}">
<link rel="stylesheet" href="{{ url_for('service.static', filename='css/swagger-ui.css') }}">
<div id="page"></div>
<script src="{{ url_for('service.static', filename='js/swagger-ui-bundle.js') }}"></script>
<script>{{ start }}</script>
</html>
"""

_START = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#page", deepLinking: true})'

_PAGE_MAY = "; ".join(
    [
        "default-src 'self'",
        f"script-src 'self' 'sha256-{b64encode(sha256(_START.encode()).digest()).decode()}'",
        "style-src 'self' 'unsafe-inline'",  # Swagger UI sets styles by itself
        "img-src 'self' data:",
        "frame-ancestors 'none'",
    ]
)
"""What a browser may load for the page: what comes from here, and the one line that starts it."""


@bp.get("/healthz/live", responses={200: schemas.Live})
def live() -> Response:
    """Answer while the process serves."""
    return answer_json({"status": "ok"})


@bp.get("/healthz/ready", responses={200: schemas.Ready, 503: schemas.Ready})
def ready() -> Response:
    """Answer 200 while every dependency answers, else 503 naming those that do not."""
    found = states()
    down = [name for name, state in found.items() if state != "ok"]
    response = answer_json({"status": "degraded" if down else "ok", "dependencies": found})
    response.status_code = 503 if down else 200
    return response


def states() -> dict[str, str]:
    """Return `ok`, or what is the matter, for each dependency by name."""
    parts = services()
    pings = {
        "database": parts.database.ping,
        "broker": parts.doorbell.ping,
        "storage": parts.storage.ping,
    }
    return {name: _state(ping) for name, ping in pings.items()}


def _state(ping: Callable[[], None]) -> str:
    """Ask one dependency; whatever it raises means that it cannot be used now."""
    try:
        ping()
    except Exception as error:  # noqa: BLE001 - each client library has its own family of errors
        return f"does not answer ({type(error).__name__})"
    return "ok"


@bp.get("/openapi.json", responses={200: {"content": {"application/json": {}}}})
def openapi() -> Response:
    """Answer with the OpenAPI document."""
    return answer_json(current_app.api_doc)  # type: ignore[attr-defined]  # the app is an OpenAPI


@bp.get("/docs", responses={200: {"content": {"text/html": {}}}})
def docs() -> Response:
    """Answer with a page on which every call can be tried."""
    response = make_response(render_template_string(_PAGE, start=Markup(_START)))  # noqa: S704 - a constant of ours
    response.headers["Content-Security-Policy"] = _PAGE_MAY
    return response
