"""The composition root puts an application together from settings alone."""

from __future__ import annotations

import asyncio
import logging

import pytest
from flask import Flask

from app.api.services import EXTENSION
from app.config import Settings
from app.factory import THREADS_TO_SPARE, create_app, serve


@pytest.fixture
def settings(tmp_path, sqlite_url):
    return Settings(home=tmp_path, database_url=sqlite_url)


def parts(app):
    return app.extensions[EXTENSION]


def test_two_applications_share_nothing(settings, tmp_path):
    other = Settings(home=tmp_path / "other", database_url=settings.database_url)
    one, two = create_app(settings), create_app(other)
    for part in ("database", "storage", "predictor", "doorbell", "waiting"):
        assert getattr(parts(one), part) is not getattr(parts(two), part)
    assert parts(one).scratch != parts(two).scratch


def test_the_home_is_made_where_there_is_none(tmp_path):
    home = tmp_path / "new" / "home"
    app = create_app(Settings(home=home))
    assert parts(app).scratch.is_dir()
    assert (home / "datasets").is_dir()
    assert app.test_client().get("/healthz/live").status_code == 200


def test_putting_together_touches_no_database_and_no_broker(tmp_path):
    nowhere = {
        "database_url": "postgresql://127.0.0.1:1/x",
        "broker_url": "redis://127.0.0.1:1/0",
    }
    assert isinstance(create_app(Settings(home=tmp_path, **nowhere)), Flask)


@pytest.mark.parametrize(
    ("threads", "held"), [(1, 1), (THREADS_TO_SPARE, 1), (THREADS_TO_SPARE + 1, 1), (32, 24)]
)
def test_some_threads_are_never_given_to_those_who_wait(settings, threads, held):
    app = create_app(settings.model_copy(update={"api_threads": threads}))
    places = parts(app).waiting
    assert [places.acquire(blocking=False) for _ in range(held)] == [True] * held
    assert not places.acquire(blocking=False)


@pytest.mark.usefixtures("own_logs")
def test_the_server_takes_its_settings_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("CHAINRULE_HOME", str(tmp_path))
    monkeypatch.setenv("CHAINRULE_API_KEYS", '{"ada": "her key"}')
    monkeypatch.setenv("CHAINRULE_LOG_LEVEL", "WARNING")
    asked, answered = [{"type": "http.request"}], []

    async def receive():
        return asked.pop()

    async def send(message):
        answered.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "raw_path": b"/v1/jobs",
        "query_string": b"",
        "http_version": "1.1",
        "headers": [(b"host", b"localhost")],
    }
    asyncio.run(serve()(scope, receive, send))
    assert logging.getLogger().level == logging.WARNING
    assert answered[0]["status"] == 401
    assert (tmp_path / "uploads").is_dir()


def test_no_debugging_is_left_on(settings):
    app = create_app(settings)
    assert not app.debug
    assert not app.testing
    assert app.secret_key is None
