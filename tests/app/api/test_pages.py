"""Lists come a page at a time, newest first, each with the address of the next."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode

import pytest

from tests.app.api.callers import ABSENT, each_database, problem, refusal

LINK = re.compile(r'<([^>]+)>; rel="next"')


def follow(caller, path):
    """Return the items of every page from ``path`` on, by the links."""
    found = []
    while path:
        answer = caller.get(path)
        assert answer.status_code == 200
        found.append([item["id"] for item in answer.json["data"]])
        link = answer.headers.get("Link")
        assert (link is None) == (answer.json["next_cursor"] is None)
        path = LINK.fullmatch(link)[1] if link else None
    return found


@each_database
def test_pages_run_from_the_newest_to_the_oldest_without_gap_or_repeat(ada, charles):
    sent = [ada.dataset() for _ in range(5)]
    charles.dataset()
    newest = sent[::-1]
    assert follow(ada, "/v1/datasets") == [newest]
    assert follow(ada, "/v1/datasets?limit=2") == [newest[:2], newest[2:4], newest[4:]]
    assert follow(ada, "/v1/datasets?limit=5") == [newest]


@each_database
def test_a_page_keeps_its_filters(ada):
    dataset = ada.dataset()
    wanted = [ada.job(dataset, name="a name & more") for _ in range(3)]
    ada.job(dataset, name="other")
    query = "?name=a%20name%20%26%20more&status=queued&limit=1"
    assert follow(ada, f"/v1/jobs{query}") == [[job] for job in wanted[::-1]]


def test_what_is_added_meanwhile_disturbs_no_later_page(ada):
    sent = [ada.dataset() for _ in range(3)]
    first = ada.get("/v1/datasets?limit=2").json
    ada.dataset()
    ada.delete(f"/v1/datasets/{sent[1]}")
    rest = ada.get(f"/v1/datasets?limit=2&cursor={first['next_cursor']}").json
    assert [item["id"] for item in rest["data"]] == [sent[0]]


def test_models_are_listed_as_well(ada):
    dataset = ada.dataset()
    models = [ada.model(dataset) for _ in range(3)]
    assert follow(ada, "/v1/models?limit=2") == [models[:0:-1], models[:1]]


@pytest.mark.parametrize("path", ["/v1/datasets", "/v1/jobs", "/v1/models"])
def test_a_list_may_be_empty(charles, path):
    answer = charles.get(path)
    assert answer.json == {"data": [], "next_cursor": None}
    assert "Link" not in answer.headers


@pytest.mark.parametrize("path", ["/v1/datasets", "/v1/jobs", "/v1/models"])
@pytest.mark.parametrize("limit", ["0", "-1", "201", "1000000000", "1.5", "1e2", "abc", "NaN", ""])
def test_how_many_come_at_once_is_bounded(library, path, limit):
    assert "expected" in refusal(library.get(f"{path}?limit={limit}"), "/limit")


@pytest.mark.parametrize("limit", ["1", "200"])
def test_the_bounds_themselves_are_taken(library, limit):
    assert library.get(f"/v1/jobs?limit={limit}").status_code == 200


def forged(text):
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize("path", ["/v1/datasets", "/v1/jobs", "/v1/models"])
@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "!!!",
        "%00",
        "é",
        f"ds_{ABSENT}",
        forged("ds_1"),
        forged("ds_" + "z" * 32),
        forged("ds_' OR 1=1 --"),
        forged("ds_\0"),
        forged(f"ds_{ABSENT}")[:-4],
        "a" * 5000,
    ],
)
def test_a_cursor_that_no_page_came_with_is_refused(library, path, cursor):
    refused = problem(library.get(f"{path}?cursor={cursor}"), 400)
    assert refused["detail"] == "expected the `next_cursor` of an earlier page"


def test_a_cursor_opens_nobody_elses_list(ada, charles):
    for _ in range(2):
        ada.dataset()
    cursor = ada.get("/v1/datasets?limit=1").json["next_cursor"]
    assert charles.get(f"/v1/datasets?cursor={cursor}").json["data"] == []


@pytest.mark.parametrize("query", ["page=2", "offset=1", "sort=-id", "Limit=1", "limit[]=1"])
def test_a_parameter_that_is_not_known_is_refused(library, query):
    name = query.split("=")[0]
    assert refusal(library.get(f"/v1/datasets?{query}"), f"/{name}") == "no such field"
