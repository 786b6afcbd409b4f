"""Bodies are bounded by what is read, whole or refused, and JSON with one meaning."""

from __future__ import annotations

import gzip
import io
import json

import pytest

from app.api.bodies import PIECE_BYTES
from tests.app.api.callers import ABSENT, IRIS, parts, problem

MIB = 2**20
FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.csv"\r\n\r\n'


class Source:
    """A body that comes as it is read, and counts; it breaks off after ``size`` bytes, if given."""

    def __init__(self, start: bytes = b"", size: int | None = None, most: int = 2**62) -> None:
        self.taken, self._start, self._size, self._most = 0, start, size, most

    def read(self, size: int = -1) -> bytes:
        assert size >= 0, "the whole body at once"
        left = size if self._size is None else min(size, self._size - self.taken)
        piece = self._start[self.taken : self.taken + min(left, self._most)]
        piece += b"1" * (min(left, self._most) - len(piece))
        self.taken += len(piece)
        return piece


def announced(source, length, kind):
    body = {"wsgi.input": source, "CONTENT_LENGTH": str(length), "CONTENT_TYPE": kind}
    return {"environ_overrides": body}


def chunked(source, kind):
    body = {"wsgi.input": source, "wsgi.input_terminated": True, "CONTENT_TYPE": kind}
    chunks = {"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": ""}
    return {"environ_overrides": {**body, **chunks}}


CALLS = [
    ("/v1/datasets", "text/csv", b"a\n"),
    ("/v1/datasets", "multipart/form-data; boundary=b", FORM),
    ("/v1/jobs", "application/json", b'{"name": "'),
    (f"/v1/jobs/job_{ABSENT}/cancel", "application/json", b'{"name": "'),
    (f"/v1/models/mdl_{ABSENT}/predict", "application/json", b'{"name": "'),
]

calls = pytest.mark.parametrize(("path", "kind", "start"), CALLS)


@pytest.fixture
def bounded(make_app, ada):
    """The API with small limits."""
    app = make_app(upload_limit_bytes=3 * MIB, body_limit_bytes=2 * MIB)
    return type(ada)(app, ada.key)


def nothing_is_left_of(caller):
    home = parts(caller.app).settings.home
    left = [*(home / "uploads").iterdir(), *(home / "datasets").iterdir()]
    return left == [] and caller.get("/v1/datasets").json["data"] == []


@calls
def test_a_body_that_announces_2_gib_is_refused_unread(ada, path, kind, start):
    source = Source(start)
    answer = ada.post(path, **announced(source, 2 * 1024 * MIB, kind))
    assert "bytes allowed" in problem(answer, 413)["detail"]
    assert source.taken == 0
    assert nothing_is_left_of(ada)


@calls
def test_a_chunked_body_without_end_is_read_up_to_the_limit(bounded, path, kind, start):
    source = Source(start)
    answer = bounded.post(path, **chunked(source, kind))
    upload = path == "/v1/datasets"
    limit = (3 if upload else 2) * MIB
    assert f"larger than the {limit:,} bytes allowed" in problem(answer, 413)["detail"]
    assert limit < source.taken <= limit + PIECE_BYTES
    assert nothing_is_left_of(bounded)


@calls
@pytest.mark.parametrize("size", [0, 1, 5000])
def test_a_body_that_breaks_off_is_refused(ada, path, kind, start, size):
    answer = ada.post(path, **announced(Source(start, size), 100_000, kind))
    assert problem(answer, 400)["detail"].endswith("of 100,000 bytes")
    assert nothing_is_left_of(ada)


@calls
def test_a_connection_that_is_lost_is_the_callers_error(ada, path, kind, start):
    class Lost(Source):
        def read(self, size=-1):
            if self.taken:
                raise ConnectionResetError
            return super().read(size)

    answer = ada.post(path, **chunked(Lost(start, 100), kind))
    assert problem(answer, 400)["detail"] == "the body broke off after 100 bytes"
    assert nothing_is_left_of(ada)


def test_a_json_body_that_breaks_off_where_it_could_end_is_refused(ada):
    body = b'{"dataset": "x", "target": "y"}'
    source = Source(body + b" ", len(body) + 1)
    answer = ada.post("/v1/jobs", **announced(source, len(body) + 2, "application/json"))
    assert problem(answer, 400)["detail"].startswith("the body broke off")


def test_a_body_of_exactly_the_limit_is_taken(make_app, ada):
    caller = type(ada)(make_app(upload_limit_bytes=len(IRIS)), ada.key)
    assert caller.send(IRIS).status_code == 201
    problem(caller.send(IRIS + b"\n"), 413)
    answer = caller.post("/v1/datasets", **chunked(io.BytesIO(IRIS), "text/csv"))
    assert answer.status_code == 201


def test_a_body_that_comes_in_drops_is_taken_whole(ada):
    drops = Source(IRIS, len(IRIS), most=7)
    answer = ada.post("/v1/datasets", **announced(drops, len(IRIS), "text/csv"))
    assert answer.json["bytes"] == len(IRIS)
    body = json.dumps({"dataset": answer.json["id"], "target": "species"}).encode()
    for sent in (
        announced(Source(body, len(body), most=3), len(body), "application/json"),
        chunked(Source(body, len(body), most=3), "application/json"),
    ):
        assert ada.post("/v1/jobs", **sent).status_code == 201


def refused(caller, body, kind="application/json", status=400, **headers):
    answer = caller.post("/v1/jobs", data=body, content_type=kind, headers=headers)
    return problem(answer, status)["detail"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the body is empty"),
        (b"{", "Expecting property name"),
        (b'{"a": 1} x', "Extra data"),
        (b"{'a': 1}", "Expecting property name"),
        (b'{"a": "\xff"}', "not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b'\xef\xbb\xbf{"a": 1}', "BOM"),
        (b'{"a": NaN}', "NaN is not a number in JSON"),
        (b'{"a": -Infinity}', "-Infinity is not a number in JSON"),
        (b'{"a": 1, "b": 2, "a": 1}', "the name 'a' appears twice in one object"),
        (b'{"a": [{"b": 1, "b": 2}]}', "the name 'b' appears twice in one object"),
        (b'{"digits": 1, "digits": 2}', "the name 'digits' appears twice in one object"),
        (rb'{"name": "\ud800"}', "not UTF-8"),
        (rb'{"\udfff": 1}', "not UTF-8"),
        (b'{"a": ' * 100_000, "nested too deeply"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"a": ' + b"9" * 1_000_000 + b"}", "a number of too many digits"),
    ],
    ids=lambda value: repr(value[:24]),
)
def test_what_is_not_json_or_has_two_meanings_is_refused(library, body, reason):
    assert reason in refused(library, body)


def test_a_whole_surrogate_pair_is_a_character(library):
    assert (
        "'😀'"
        in library.post(
            "/v1/jobs",
            data=rb'{"dataset": "x", "target": "y", "optimizer": {"type": "\ud83d\ude00"}}',
            content_type="application/json",
        ).text
    )


@pytest.mark.parametrize("body", [b"[]", b'"{}"', b"1", b"null", b"true"])
def test_json_that_is_no_object_is_refused(library, body):
    assert refused(library, body, status=422).startswith("the body must be a JSON object, got ")


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "text/json", "application/x-www-form-urlencoded"]
)
def test_json_under_another_name_is_refused(library, kind):
    assert refused(library, b'{"a": 1}', kind, 415) == "send the body as application/json"
    problem(library.post("/v1/jobs", **chunked(io.BytesIO(b'{"a": 1}'), kind)), 415)


@pytest.mark.parametrize("kind", [None, "application/json"])
def test_no_body_where_one_is_needed_is_refused(library, kind):
    answer = library.post("/v1/jobs", content_type=kind)
    assert problem(answer, 400)["detail"] == "the body is empty; send a JSON object"


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "gzip, gzip", "x"])
def test_json_that_is_packed_is_refused(library, encoding):
    packed = gzip.compress(b"{}")
    reason = refused(library, packed, status=415, **{"Content-Encoding": encoding})
    assert reason == f"Content-Encoding: expected none; got {encoding!r}"


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip"])
def test_an_upload_that_is_packed_in_another_way_is_refused(library, encoding):
    answer = library.send(headers={"Content-Encoding": encoding})
    assert "expected gzip or zstd, or none" in problem(answer, 415)["detail"]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("name=%ff", "the query holds what is not UTF-8 text"),
        ("name=%", "a % that no two hexadecimal digits follow; write it as %25"),
        ("limit=%zz", "a % that no two hexadecimal digits follow"),
    ],
)
def test_a_query_that_cannot_be_read_is_refused(library, query, reason):
    assert reason in problem(library.get(f"/v1/jobs?{query}"), 400)["detail"]


def test_a_body_for_no_call_is_not_looked_at(library):
    for body in (b"{}", b"{"):
        for method, path, status in (("POST", "/v1/nothing", 404), ("PUT", "/v1/jobs", 405)):
            answer = library.call(method, path, data=body, content_type="text/plain")
            problem(answer, status)
