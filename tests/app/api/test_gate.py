"""The gate: every route is closed unless it is named as public, and every request has an id."""

from __future__ import annotations

import re

import pytest

from app.api.gate import PUBLIC
from app.api.login import LOCAL_OWNER
from tests.app.api.callers import ABSENT, IRIS, KEYS, Caller, problem, routes

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")


@pytest.mark.parametrize("method", METHODS)
def test_without_a_key_no_route_is_open_but_the_public_ones(library, method):
    client = library.app.test_client()
    closed = [route for route in routes(library.app) if route.endpoint not in PUBLIC]
    assert len(closed) > 15
    for route in closed:
        answer = client.open(route.path, method=method)
        assert answer.status_code in (401, 404, 405), route


def test_what_is_public_tells_nothing_of_anybody(library):
    found = list(routes(library.app))
    assert {route.endpoint for route in found} >= PUBLIC
    assert not any(r.path.startswith("/v1") for r in found if r.endpoint in PUBLIC)


def test_an_address_that_leads_nowhere_is_closed_as_well(library):
    assert library.app.test_client().get("/v1/nothing").status_code == 401


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "Bearer",
        "Bearer ",
        KEYS["ada"],
        f"Basic {KEYS['ada']}",
        f"Token {KEYS['ada']}",
        f"Bearer {KEYS['ada'][:-1]}",
        f"Bearer {KEYS['ada']}x",
        f"Bearer {KEYS['ada'].upper()}",
        f"Bearer {KEYS['ada']}, Bearer {KEYS['ada']}",
        f"Bearer {KEYS['ada']} {KEYS['ada']}",
        f"Bearer key={KEYS['ada']}",
        "Bearer schlüssel",
        "Bearer \xff\xfe",
        "Bearer " + "x" * 10_000,
        "Bearer ada",
        "\t",
    ],
)
def test_a_key_that_is_not_known_is_refused(library, sent):
    answer = library.app.test_client().get("/v1/datasets", headers={"Authorization": sent})
    refused = problem(answer, 401)
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "Authorization: Bearer <key>" in refused["detail"]


@pytest.mark.parametrize("where", ["?key=", "?api_key=", "?access_token="])
def test_a_key_in_the_query_is_no_key(library, where):
    problem(library.app.test_client().get(f"/v1/datasets{where}{KEYS['ada']}"), 401)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_known_in_any_case(library, scheme):
    sent = {"Authorization": f"{scheme} {KEYS['ada']}"}
    assert library.app.test_client().get("/v1/datasets", headers=sent).status_code == 200


@pytest.mark.parametrize("key", ["a=b", "a==", "YWRh+/=", "naïve Ключ"])
def test_any_key_that_can_be_configured_can_be_sent(make_app, key):
    app = make_app(api_keys={"ada": key})
    sent = key.encode().decode("latin-1")  # a header is bytes; WSGI hands it over like this
    answer = app.test_client().get("/v1/datasets", headers={"Authorization": f"Bearer {sent}"})
    assert answer.status_code == 200


def test_where_no_keys_are_configured_everything_belongs_to_one_owner(make_app):
    client = make_app(api_keys={}).test_client()
    dataset = client.post("/v1/datasets", data=IRIS, content_type="text/csv").json["id"]
    stranger = {"Authorization": "Bearer whatever"}
    assert client.get(f"/v1/datasets/{dataset}", headers=stranger).status_code == 200
    named = Caller(make_app(api_keys={LOCAL_OWNER: "key", "ada": "other"}), "key")
    assert named.get(f"/v1/datasets/{dataset}").status_code == 200


class Untouched:
    def read(self, size=-1):
        raise AssertionError(size)


UNTOUCHED = {"wsgi.input": Untouched(), "CONTENT_LENGTH": "1000"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/v1/jobs", 401), ("POST", "/healthz/live", 401), ("GET", "/healthz/live", 200)],
)
def test_no_body_is_read_of_one_who_has_shown_no_key(library, method, path, status):
    sent = {"content_type": "application/json", "environ_overrides": UNTOUCHED}
    answer = library.app.test_client().open(path, method=method, **sent)
    assert answer.status_code == status


@pytest.mark.parametrize("sent", ["a", "7f3c-41:d.e_F", "x" * 128])
def test_a_callers_own_request_id_comes_back(library, sent):
    answer = library.get(f"/v1/jobs/job_{ABSENT}", headers={"X-Request-Id": sent})
    assert problem(answer, 404)["request_id"] == sent


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", "a\tb", "ä", '"', "<script>", "a;b", "a/b"])
def test_a_request_id_that_is_not_sane_is_replaced(library, sent):
    given = library.get("/healthz/live", headers={"X-Request-Id": sent}).headers["X-Request-Id"]
    assert re.fullmatch(r"[0-9a-f]{32}", given)


def test_every_answer_has_an_id_of_its_own(ada, app):
    answers = [
        ada.get("/v1/datasets"),
        ada.get("/v1/datasets"),
        ada.get("/nothing"),
        ada.call("PUT", "/v1/jobs"),
        app.test_client().get("/v1/jobs"),
        ada.get("/docs"),
        ada.call("OPTIONS", "/v1/jobs"),
    ]
    assert len({answer.headers["X-Request-Id"] for answer in answers}) == len(answers)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/datasets/",
        "/v1//datasets",
        "/v1/datasets/%00",
        "/v1/datasets/%ff",
        "/v1/datasets/%2e%2e%2fjobs",
        "/v1/datasets/..%5cjobs",
        "/v1/datasets/%252e%252e",
        "/v1/datasets/a b",
        "/v1/datasets/a;b",
        "/v1/jobs/%00/curve",
        "/v1/models/%0a/weights",
        "/static/x",
        "/docs/assets/../../openapi.py",
        "/docs/assets/%2e%2e/plugins.py",
        "/docs/assets/none.js",
    ],
)
def test_a_path_that_is_none_of_ours_leads_nowhere(library, path):
    assert "/openapi.json" in problem(library.get(path), 404)["detail"]


@pytest.mark.parametrize("query", ["limit=1&limit=2", "limit=1&limit=1", "cursor=a&cursor=b"])
def test_a_parameter_that_is_given_twice_is_refused(library, query):
    refused = problem(library.get(f"/v1/datasets?{query}"), 400)
    assert "2 times; give it once" in refused["detail"]
