"""Keys over HTTP: made and shown once by administrators, and good for what they are good for."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from app.api.gate import PUBLIC, needed
from app.store import keys
from app.store.keys import Scope
from app.store.tables import ApiKey, IdempotencyKey, now
from tests.app.api.callers import ABSENT, Caller, each_database, parts, problem, routes


def made(admin, **facts):
    answer = admin.post("/v1/keys", json={"owner": "grace", **facts})
    assert answer.status_code == 201, answer.text
    return answer.json


@each_database
def test_a_key_is_made_shown_once_and_works(ada, app):
    answer = ada.post("/v1/keys", json={"owner": "grace", "name": "nightly training"})
    key = answer.json
    assert answer.status_code == 201
    assert answer.headers["Location"].endswith(f"/v1/keys/{key['id']}")
    assert key["key"].startswith(key["id"] + "_")
    assert (key["owner"], key["scopes"]) == ("grace", ["read", "train", "predict"])
    grace = Caller(app, key["key"])
    dataset = grace.dataset()
    assert grace.get(f"/v1/datasets/{dataset}").status_code == 200
    problem(ada.get(f"/v1/datasets/{dataset}"), 404)
    shown = ada.get(answer.headers["Location"]).json
    assert "key" not in shown
    assert shown["used_at"] is not None
    assert key["key"] not in ada.get("/v1/keys").text


def test_the_same_request_again_makes_no_other_key_and_does_not_tell_it_again(ada, app):
    sent = {"json": {"owner": "grace"}, "headers": {"Idempotency-Key": "once"}}
    first, again = (ada.post("/v1/keys", **sent) for _ in range(2))
    assert first.status_code == again.status_code == 201
    assert again.json == {**first.json, "key": None}
    with parts(app).database.reading() as session:
        stored = session.scalars(select(IdempotencyKey.body)).all()
        assert len(session.scalars(select(ApiKey)).all()) == 1
    assert first.json["key"].encode() not in b"".join(stored)


@pytest.mark.parametrize("scope", Scope)
def test_a_key_is_good_for_its_scope_and_for_nothing_else(ada, app, scope):
    caller = Caller(app, made(ada, scopes=[scope])["key"])
    checked = 0
    for route in routes(app):
        if route.endpoint in PUBLIC:
            continue
        for method in route.methods:
            answer, wanted = caller.call(method, route.path), needed(route.endpoint, method)
            allowed = scope in (Scope.ADMIN, wanted)
            assert (answer.status_code != 403) is allowed, (method, route)
            if not allowed:
                checked += 1
                assert method == "HEAD" or f"scope '{wanted}'" in answer.text
    assert checked > 5 or scope is Scope.ADMIN


def test_what_a_call_needs_is_written_down_for_every_route(app):
    asks = ("/predict", "/evaluate", "/trace", "/saliency", "/infer")
    for route in routes(app):
        if route.endpoint in PUBLIC:
            continue
        for method in route.methods - {"HEAD", "OPTIONS"}:
            scope = needed(route.endpoint, method)
            if route.path.startswith("/v1/keys"):
                assert scope == "admin", (method, route)
            elif route.path.endswith(asks):
                assert scope == "predict", (method, route)
            else:
                assert scope == ("read" if method == "GET" else "train"), (method, route)


def test_a_revoked_key_is_refused_at_once(ada, app):
    key = made(ada)
    grace = Caller(app, key["key"])
    assert grace.get("/v1/jobs").status_code == 200
    for _ in range(2):
        assert ada.delete(f"/v1/keys/{key['id']}").status_code == 204
        problem(grace.get("/v1/jobs"), 401)
    assert ada.get(f"/v1/keys/{key['id']}").json["revoked_at"] is not None


def test_a_key_that_has_ended_is_refused_like_one_that_never_was(ada, app):
    key = made(ada, expires_at=(now() + timedelta(hours=1)).isoformat())
    grace = Caller(app, key["key"])
    assert grace.get("/v1/jobs").status_code == 200
    with parts(app).database.writing() as session:
        session.execute(update(ApiKey).values(expires_at=now()))
    ended = problem(grace.get("/v1/jobs"), 401)
    unknown = problem(Caller(app, f"key_{ABSENT}_{'0' * 64}").get("/v1/jobs"), 401)
    differing = ("request_id",)
    assert {n: v for n, v in ended.items() if n not in differing} == {
        n: v for n, v in unknown.items() if n not in differing
    }


@pytest.mark.parametrize(
    ("body", "pointer", "said"),
    [
        ({}, "/owner", "missing"),
        ({"owner": ""}, "/owner", "at least 1"),
        ({"owner": "a\x00b"}, "/owner", "control"),
        ({"owner": "x" * 201}, "/owner", "at most 200"),
        ({"owner": "a", "scopes": []}, "/scopes", "at least 1"),
        ({"owner": "a", "scopes": ["write"]}, "/scopes/0", "read, train, predict, admin"),
        ({"owner": "a", "scopes": ["read"] * 5}, "/scopes", "at most 4"),
        ({"owner": "a", "scopes": "read"}, "/scopes", "array"),
        ({"owner": "a", "expires_at": "2001-01-01T00:00:00Z"}, "/expires_at", "over"),
        ({"owner": "a", "expires_at": "2999-01-01T00:00:00"}, "/expires_at", "with its zone"),
        ({"owner": "a", "expires_at": "2999-13-01T00:00:00Z"}, "/expires_at", "such as"),
        ({"owner": "a", "expires_at": "soon"}, "/expires_at", "such as"),
        ({"owner": "a", "expires_at": 32503680000}, "/expires_at", "got a number"),
        ({"owner": "a", "key": "mine"}, "/key", "no such field"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused_where_it_makes_none(ada, app, body, pointer, said):
    refused = problem(ada.post("/v1/keys", json=body), 422)
    assert refused["errors"][0]["pointer"] == pointer
    assert said in refused["errors"][0]["detail"]
    with parts(app).database.reading() as session:
        assert not keys.exist(session)


@pytest.mark.parametrize("call", ["get", "delete"])
def test_a_key_that_is_not_there_is_not_found(ada, call):
    problem(getattr(ada, call)(f"/v1/keys/key_{ABSENT}"), 404)


def test_keys_are_listed_by_owner_and_by_page(ada):
    ids = [made(ada, owner=owner)["id"] for owner in ("grace", "emmy", "grace")]
    page = ada.get("/v1/keys?limit=2").json
    rest = ada.get(f"/v1/keys?limit=2&cursor={page['next_cursor']}").json
    assert [key["id"] for key in page["data"] + rest["data"]] == ids[::-1]
    assert [key["id"] for key in ada.get("/v1/keys?owner=emmy").json["data"]] == [ids[1]]


def test_with_the_first_key_the_door_closes_for_good(make_app):
    app = make_app(api_keys={})
    anyone = app.test_client()
    assert anyone.get("/v1/jobs").status_code == 200
    key = anyone.post("/v1/keys", json={"owner": "local", "scopes": ["admin"]}).json
    other = make_app(api_keys={}).test_client()
    for client in (anyone, other):
        assert client.get("/v1/jobs").status_code == 401
    admin = Caller(app, key["key"])
    assert admin.get("/v1/jobs").status_code == 200
    assert admin.delete(f"/v1/keys/{key['id']}").status_code == 204
    for client in (anyone, other):
        assert client.get("/v1/jobs").status_code == 401


def test_where_others_reach_the_service_nobody_is_let_in_without_a_key(make_app):
    app = make_app(api_keys={}, host="0.0.0.0")  # noqa: S104 - nothing listens
    assert app.test_client().get("/v1/jobs").status_code == 401
