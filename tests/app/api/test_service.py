"""The service tells whether it lives, what it needs that is missing, and how it is called."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from app.api import service
from tests.app.api.callers import KEYS, Caller, each_database, parts, problem


@pytest.fixture
def anybody(app):
    return app.test_client()


def test_it_lives_while_it_answers(make_app, tmp_path):
    client = make_app(database_url=f"sqlite:///{tmp_path}/no/folder.db").test_client()
    answer = client.get("/healthz/live")
    assert (answer.status_code, answer.json) == (200, {"status": "ok"})


@each_database
def test_it_is_ready_when_all_that_it_needs_answers(anybody):
    answer = anybody.get("/healthz/ready")
    assert answer.status_code == 200
    needs = {"database": "ok", "broker": "ok", "storage": "ok"}
    assert answer.json == {"status": "ok", "dependencies": needs}


def test_it_is_ready_beside_a_broker_that_answers(make_app, redis_url):
    answer = make_app(broker_url=redis_url).test_client().get("/healthz/ready")
    assert answer.json["dependencies"]["broker"] == "ok"


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("database", {"database_url": "sqlite:////nowhere/at/all.db"}),
        ("database", {"database_url": "postgresql://ada:secret@127.0.0.1:1/x"}),
        ("broker", {"broker_url": "redis://:secret@127.0.0.1:1/0"}),
    ],
)
def test_it_names_what_is_down_and_nothing_more(make_app, name, changes):
    answer = make_app(**changes).test_client().get("/healthz/ready")
    assert answer.status_code == 503
    assert answer.json["status"] == "degraded"
    found = answer.json["dependencies"]
    assert [need for need, state in found.items() if state != "ok"] == [name]
    assert re.fullmatch(r"does not answer \(\w+\)", found[name])
    assert "secret" not in answer.text


def test_it_names_a_storage_that_is_gone(app, anybody):
    shutil.rmtree(parts(app).settings.home / "datasets")
    answer = anybody.get("/healthz/ready")
    assert answer.status_code == 503
    assert answer.json["dependencies"]["storage"] == "does not answer (FileNotFoundError)"


def test_the_page_loads_nothing_from_elsewhere(anybody):
    page = anybody.get("/docs")
    assert page.status_code == 200
    assert page.mimetype == "text/html"
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(named) == 3
    for path in named:
        assert path.startswith("/docs/assets/")
        asset = anybody.get(path)
        assert asset.status_code == 200
        assert len(asset.data) > 500
        asset.close()
    assert "//" not in re.sub(r"<!.*?>", "", page.text)
    assert '"/openapi.json"' in page.text


@pytest.mark.parametrize(
    "file", sorted(Path(service.ASSETS).rglob("*.*")), ids=lambda file: file.name
)
def test_no_style_sheet_of_the_page_asks_elsewhere_for_a_picture_or_font(file):
    if file.suffix == ".css":
        assert not re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", file.read_text())


def test_only_assets_are_served_from_their_folder(anybody):
    for path in ("", "..", "../plugins.py", "%2e%2e/%2e%2e/plugins.py", "/etc/passwd", "none.js"):
        answer = anybody.get(f"/docs/assets/{path}")
        assert answer.status_code in (401, 404), path


@pytest.mark.parametrize("path", ["/healthz/live", "/healthz/ready", "/docs", "/openapi.json"])
def test_what_is_public_needs_no_key_and_minds_no_wrong_one(anybody, ada, path):
    assert anybody.get(path).status_code == 200
    assert anybody.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 200
    assert anybody.head(path).status_code == 200
    assert problem(ada.post(path), 405)["detail"].endswith("GET, HEAD, OPTIONS do")


def test_a_database_that_comes_back_is_used_again(make_app, sqlite_url, tmp_path):
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    caller = Caller(make_app(), KEYS["ada"])
    assert caller.get("/v1/jobs").status_code == 200
    parts(caller.app).database.dispose()
    away = file.rename(tmp_path / "away.db")
    file.mkdir()
    problem(caller.get("/v1/jobs"), 503)
    file.rmdir()
    away.rename(file)
    assert caller.get("/v1/jobs").status_code == 200
