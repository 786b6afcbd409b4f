"""Bad requests of any kind: bodies, headers, addresses, keys, pages.

What no library would send is in tests/e2e/test_raw_requests.py.
"""

from __future__ import annotations

import gzip
from typing import Any

import httpx

from tests.e2e.bad_inputs.rows import JSON, USED_KEY, Row, World, got, posted

JOBS, DATASETS = "/v1/jobs", "/v1/datasets"
BODY_LIMIT_BYTES = 4 << 20
UPLOAD_LIMIT_BYTES = 16 << 20

EMPTY = "the body is empty; send a JSON object"
NO_OBJECT = "the body must be a JSON object, got"


def pieces(size: int) -> Any:
    """Yield so many bytes, whose number is not announced."""
    for _ in range(size >> 16):
        yield b" " * (1 << 16)


def too_large(path: str, kind: str, body: Any) -> Any:
    return lambda w: w.ada.post(path, content=body(), headers={"Content-Type": kind})


BODIES = [
    posted(1, "not JSON", b"{'a': 1}", 400, "not valid JSON: Expecting property name"),
    posted(2, "empty body", b"", 400, EMPTY),
    posted(3, "JSON and more", b'{"a": 1} x', 400, "Extra data: line 1 column 10"),
    posted(4, "invalid UTF-8", b'{"a": "\xff"}', 400, "not UTF-8"),
    posted(5, "JSON in UTF-16", '{"a": 1}'.encode("utf-16"), 400, "not UTF-8"),
    posted(5, "JSON with a BOM", b'\xef\xbb\xbf{"a": 1}', 400, "BOM"),
    posted(6, "an array", b"[]", 422, f"{NO_OBJECT} an array"),
    posted(6, "a string", b'"{}"', 422, f"{NO_OBJECT} a string"),
    posted(6, "null", b"null", 422, f"{NO_OBJECT} null"),
    posted(7, "100,000 levels", b'{"a": ' * 100_000, 400, "nested too deeply"),
    posted(8, "1,000,000 digits", b'{"a": %s}' % (b"9" * 10**6), 400, "too many digits"),
    posted(9, "NaN", b'{"a": NaN}', 400, "NaN is not a number in JSON"),
    posted(9, "-Infinity", b'{"a": -Infinity}', 400, "-Infinity is not a number in JSON"),
    Row(
        10,
        "1e400",
        lambda w: w.ada.post(
            JOBS,
            content=b'{"dataset": "x", "target": "y", "optimizer": {"type": "sgd", "l1": 1e400}}',
            headers=JSON,
        ),
        422,
        "expected a finite number",
        "/optimizer/l1",
    ),
    posted(11, "a name twice", b'{"a": 1, "a": 2}', 400, "the name 'a' appears twice"),
    posted(13, "another type", b"{}", 415, "as application/json", Content_Type="text/plain"),
    Row(
        14,
        "no type",
        lambda w: w.ada.post(JOBS, content=b"{}", headers={"Content-Type": ""}),
        415,
        "as application/json",
    ),
    posted(15, "JSON in gzip", gzip.compress(b"{}"), 415, "got 'gzip'", Content_Encoding="gzip"),
    posted(15, "JSON in br", b"x", 415, "Content-Encoding: expected none", Content_Encoding="br"),
    Row(
        15,
        "a table in br",
        lambda w: w.ada.post(
            DATASETS, content=b"x", headers={"Content-Type": "text/csv", "Content-Encoding": "br"}
        ),
        415,
        "expected gzip or zstd, or none; got 'br'",
    ),
    Row(
        16,
        "JSON over the limit",
        too_large(JOBS, "application/json", lambda: b" " * (BODY_LIMIT_BYTES + 1)),
        413,
        f"{BODY_LIMIT_BYTES:,} bytes allowed",
    ),
    Row(
        16,
        "a table over the limit",
        too_large(DATASETS, "text/csv", lambda: b"1" * (UPLOAD_LIMIT_BYTES + 1)),
        413,
        f"{UPLOAD_LIMIT_BYTES:,} bytes allowed",
    ),
    Row(
        17,
        "JSON over the limit in chunks",
        too_large(JOBS, "application/json", lambda: pieces(2 * BODY_LIMIT_BYTES)),
        413,
        f"{BODY_LIMIT_BYTES:,} bytes allowed",
    ),
    Row(
        17,
        "a table over the limit in chunks",
        too_large(DATASETS, "text/csv", lambda: pieces(2 * UPLOAD_LIMIT_BYTES)),
        413,
        f"{UPLOAD_LIMIT_BYTES:,} bytes allowed",
    ),
    Row(
        2,
        "a body of as many values as fit, none of them wanted",
        lambda w: w.ada.post(
            JOBS,
            content=(
                b'{"dataset": "x", "target": "y", "metadata": {"a": ['
                + b'{"a":1},' * (BODY_LIMIT_BYTES // 8 - 10)
                + b"1]}}"
            ),
            headers=JSON,
        ),
        422,
        "takes",
        "/metadata",
    ),
]

ADDRESSES = [
    got(
        21,
        "another host",
        JOBS,
        421,
        "the service is not called 'evil.example'",
        Host="evil.example",
    ),
    got(22, "an address of 20 kB", JOBS + "?name=" + "y" * 20_000, 414),
    Row(24, "PUT of a list", lambda w: w.ada.put(JOBS), 405, "GET, HEAD, OPTIONS, POST do"),
    Row(24, "PUT with a body", lambda w: w.ada.put(JOBS, json={"a": 1}), 405, "POST do"),
    Row(
        24,
        "PATCH of a job",
        lambda w: w.ada.patch(f"{JOBS}/{w.job}", json={"name": "x"}),
        405,
        "do",
    ),
    got(25, "no such route", "/v1/nothing", 404, "there is nothing at this address"),
    Row(25, "POST to no route", lambda w: w.ada.post("/v1/x", json={"a": 1}), 404, "nothing at"),
    got(26, "a curve as XML", JOBS + "/{job}/curve", 406, "it comes as one of", Accept="text/xml"),
    got(26, "a job as HTML: JSON all the same", JOBS + "/{job}", 200, Accept="text/html"),
    got(
        27, "a range of words", "/v1/models/{model}/weights", 416, "ask for one", Range="bytes=x-y"
    ),
    got(
        27,
        "a range behind the end",
        "/v1/models/{model}/weights",
        416,
        "ask for one range",
        Range="bytes=999999999-",
    ),
    got(28, "a tag that is none", JOBS + "/{job}", 200, If_None_Match="x"),
    got(29, "NUL in a path", JOBS + "/a%00b", 404, "nothing at this address"),
    got(29, "NUL in a query", JOBS + "?name=a%00b", 422, "/name: holds control characters"),
    got(30, "../ in an id", JOBS + "/..%2f..%2fetc", 404, "nothing at this address"),
    got(30, "..\\ in an id", JOBS + "/..%5Cetc", 404, "nothing at this address"),
    got(30, "../ encoded twice", JOBS + "/%252e%252e%252fetc", 404, "nothing at this address"),
    got(31, "a query that is not UTF-8", JOBS + "?name=%ff", 400, "UTF-8"),
    got(31, "a query with a stray %", JOBS + "?limit=%zz", 400, "a % that no two hex"),
    got(31, "a filter with a stray %", JOBS + "?name=100%", 400, "write it as %25"),
    got(32, "a parameter twice", JOBS + "?limit=1&limit=2", 400, "gives 'limit' 2 times"),
    got(32, "an unknown parameter", JOBS + "?page=1", 422, "/page: no such field"),
]


def keyed(item: int, name: str, authorization: str | bytes) -> Row:
    """Ask with another header."""

    def send(w: World) -> httpx.Response:
        return w.stranger.get(JOBS, headers={"Authorization": authorization})

    return Row(item, name, send, 401, "send `Authorization: Bearer <key>`")


def made_key(w: World, **wish: Any) -> dict[str, Any]:
    """Have a key made for somebody else."""
    return dict(w.ada.post("/v1/keys", json={"owner": "carol", **wish}).json())


def with_revoked_key(w: World) -> httpx.Response:
    key = made_key(w)
    w.ada.delete(f"/v1/keys/{key['id']}")
    return w.stranger.get(JOBS, headers={"Authorization": f"Bearer {key['key']}"})


def with_key_for_reading(w: World) -> httpx.Response:
    key = made_key(w, scopes=["read"])
    sent = {"Authorization": f"Bearer {key['key']}"}
    try:
        return w.stranger.post(JOBS, json=w.spec(), headers=sent)
    finally:
        w.ada.delete(f"/v1/keys/{key['id']}")


def foreign(kind: str, path: str, **body: Any) -> Row:
    """Ask for what is Bob's."""

    def send(w: World) -> httpx.Response:
        where = path.format(**w.theirs)
        return w.ada.post(where, json=body) if body else w.ada.get(where)

    return Row(37, f"somebody else's {kind}", send, 404, "there is no ")


def with_their_dataset(w: World) -> httpx.Response:
    return w.ada.post(JOBS, json=w.spec(dataset=w.theirs["dataset"]))


KEYS = [
    Row(33, "no key", lambda w: w.stranger.get(JOBS), 401, "with a key that the service knows"),
    keyed(34, "half a key", "Bearer key of"),
    keyed(34, "a key in capitals", "Bearer KEY OF ADA"),
    keyed(34, "a key of 10 kB", "Bearer " + "k" * 10_000),
    keyed(34, "a key that is not ASCII", "Bearer schlüssel".encode()),
    keyed(34, "another scheme", "Basic YWRhOmtleQ=="),
    keyed(34, "an empty key", "Bearer"),
    Row(35, "a revoked key", with_revoked_key, 401, "send `Authorization: Bearer <key>`"),
    Row(
        36,
        "a key for reading only",
        with_key_for_reading,
        403,
        "needs a key with the scope 'train'",
    ),
    foreign("dataset", "/v1/datasets/{dataset}"),
    foreign("rows", "/v1/datasets/{dataset}/rows"),
    foreign("job", "/v1/jobs/{job}"),
    foreign("curve", "/v1/jobs/{job}/curve"),
    foreign("model", "/v1/models/{model}"),
    foreign("weights", "/v1/models/{model}/weights"),
    foreign("model to predict with", "/v1/models/{model}/predict", instances=[[1, 2, 3, 4]]),
    Row(
        37,
        "somebody else's dataset in a body",
        with_their_dataset,
        404,
        "there is no ",
    ),
    Row(
        37,
        "somebody else's dataset to validate on",
        lambda w: w.ada.post(JOBS, json=w.spec(validation={"dataset": w.theirs["dataset"]})),
        404,
        "there is no ",
    ),
    Row(
        38,
        "a key in the query",
        lambda w: w.stranger.get(JOBS + "?api_key=key+of+ada"),
        401,
        "send `Authorization: Bearer <key>`",
    ),
]


def page(name: str, query: str, status: int, says: str, item: int = 43) -> Row:
    return got(item, name, f"{JOBS}?{query}", status, says)


CURSOR = "expected the `next_cursor` of an earlier page"


def idempotent(name: str, key: str | bytes) -> Row:
    def send(w: World) -> httpx.Response:
        headers = {b"Idempotency-Key": key if isinstance(key, bytes) else key.encode()}
        return w.ada.post(JOBS, json=w.spec(), headers=headers)

    return Row(46, name, send, 400, "Idempotency-Key: expected 1 to 255 printable ASCII")


def with_key_twice(w: World) -> httpx.Response:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    return w.ada.post(JOBS, json=w.spec(), headers=headers)


def with_key_of_another(w: World) -> httpx.Response:
    return w.ada.post(JOBS, json=w.spec(seed=1), headers={"Idempotency-Key": USED_KEY})


def end(name: str, expires_at: Any, says: str) -> Row:
    return Row(
        49,
        name,
        lambda w: w.ada.post("/v1/keys", json={"owner": "carol", "expires_at": expires_at}),
        422,
        says,
        "/expires_at",
    )


LISTS = [
    got(41, "an id of another form", DATASETS + "/' OR 1=1", 404, "nothing at this address"),
    got(41, "an id of 10 kB", DATASETS + "/" + "x" * 5_000, 404, "nothing at this address"),
    got(42, "an id of another kind", DATASETS + "/{job}", 404, "there is no "),
    page("limit 0", "limit=0", 422, "/limit: expected at least 1"),
    page("limit -1", "limit=-1", 422, "/limit: expected at least 1"),
    page("limit 10^9", "limit=1000000000", 422, "/limit: expected at most 200"),
    page("limit abc", "limit=abc", 422, "/limit: expected an integer"),
    page("limit 1.5", "limit=1.5", 422, "/limit: expected an integer"),
    page("limit NaN", "limit=NaN", 422, "/limit: expected an integer"),
    page("a cursor that is none", "cursor=x", 400, CURSOR, 44),
    page("an empty cursor", "cursor=", 400, CURSOR, 44),
    page("a cursor with SQL", "cursor=JyBPUiAxPTE", 400, CURSOR, 44),
    page("an unknown status", "status=done", 422, "/status: unknown 'done'", 45),
    page("SQL as a filter", "dataset='+OR+1=1", 422, "/dataset: expected an id", 45),
    page("sorting", "sort=name", 422, "/sort: no such field", 45),
    idempotent("an empty idempotency key", ""),
    idempotent("an idempotency key of 256 characters", "k" * 256),
    idempotent("an idempotency key that is not ASCII", "ü"),
    Row(46, "two idempotency keys", with_key_twice, 400, "Idempotency-Key"),
    Row(47, "an idempotency key of another request", with_key_of_another, 422, "another request"),
    end("the 30th of February", "2030-02-30T00:00:00Z", "expected a time such as"),
    end("the year 1,000,000", "1000000-01-01T00:00:00Z", "expected a time such as"),
    end("no zone", "2030-01-01T00:00:00", "expected a time with its zone"),
    end("a time that is over", "2000-01-01T00:00:00Z", "is over; name a time to come"),
    end("a number", 4_000_000_000, "expected a string such as"),
]

ROWS = [*BODIES, *ADDRESSES, *KEYS, *LISTS]
