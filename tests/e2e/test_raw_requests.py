"""What comes over a socket and is no request that a library would send."""

from __future__ import annotations

import json
import socket
import time
from contextlib import closing, suppress

import httpx
import psutil
import pytest

from app.config import Settings
from tests.e2e.services import Caller, alive

pytestmark = pytest.mark.e2e

CSV = b"a,b\n" + b"1,2\n" * 50
SLOW_CLIENTS = 64
"""Four for each thread of the API."""


@pytest.fixture
def api(embedded):
    """The address of a service, which answers before and after."""
    yield httpx.URL(embedded.commands[0].url)
    assert embedded.caller.get("/v1/jobs").status_code == 200


def send(api, *pieces, cut=False):
    """Send bytes as they are; return the status, the headers and the body of what is answered."""
    with closing(socket.create_connection((api.host, api.port), timeout=30)) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):  # refused before all was sent
            for piece in pieces:
                connection.sendall(piece)
            if cut:
                connection.shutdown(socket.SHUT_WR)
        received = b""
        with suppress(ConnectionResetError):
            while b"\r\n\r\n" not in received or not is_whole(received):
                piece = connection.recv(65_536)
                if not piece:
                    break
                received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    line, *headers = head.decode("latin-1").split("\r\n")
    return int(line.split()[1]), dict(h.lower().split(": ", 1) for h in headers), body


def is_whole(received):
    head, _, body = received.partition(b"\r\n\r\n")
    length = [h.split(b":")[1] for h in head.lower().split(b"\r\n") if h.startswith(b"content-len")]
    return len(body) >= int(length[0]) if length else False


def head(method="GET", path="/v1/jobs", *lines):
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode("latin-1")


def upload(*lines):
    return head(
        "POST", "/v1/datasets?name=raw", "Host: localhost", "Content-Type: text/csv", *lines
    )


def datasets(embedded):
    return len(embedded.caller.get("/v1/datasets").json()["data"])


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([], 400),
        (["Host:"], 400),
        (["Host: a", "Host: b"], 400),
        (["Host: localhost", "Host: localhost"], 400),
        (["Host: localhost/x"], 400),
        (["Host: user@localhost"], 400),
        (["Host: evil.example"], 421),
        (["Host: localhost.evil.example"], 421),
        (["Host: 169.254.169.254"], 421),
        (["Host: localhost:1"], 200),
        (["Host: LOCALHOST"], 200),
        (["Host: [::1]:8000"], 200),
        (["Host: localhost", "X-Forwarded-Host: evil.example"], 200),
    ],
)
def test_only_a_request_for_this_service_is_answered(api, lines, status):
    got, headers, body = send(api, head("GET", "/v1/jobs", *lines))
    assert got == status
    if status != 200:
        assert headers["content-type"].startswith("application/problem+json")
        assert json.loads(body)["status"] == status


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ([b"GARBAGE\r\n\r\n"], 400),
        ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"], 400),
        ([head("GET", "/v1/jobs", "Host: localhost", "Bad Header: x")], 400),
        ([head("GET", "/v1/jobs", "Host: localhost", "X: a\x00b")], 400),
        ([head("GET", "/v1/jobs", "Host: localhost", "X: " + "y" * 200_000)], 431),
        ([head("GET", "/v1/jobs", "Host: localhost", *(f"X-{n}: y" for n in range(300)))], 431),
        ([head("GET", "/" + "y" * 20_000, "Host: localhost")], 414),
        ([head("GET", "/v1/jobs?" + "y" * 20_000, "Host: localhost")], 414),
        ([head("GET", "//v1/jobs", "Host: localhost")], 404),
        ([head("GET", "/v1/%2e%2e/jobs", "Host: localhost")], 404),
        ([upload("Content-Length: 3", "Content-Length: 4"), b"abc"], 400),
        ([upload("Content-Length: +5"), b"a,b\n1"], 400),
        ([upload("Content-Length: -1")], 400),
        ([upload("Content-Length: 0x5"), b"a,b\n1"], 400),
        ([upload("Content-Length: 99999999999999999999"), b"a"], 400),
        ([upload("Content-Length: 300000000"), b"a"], 413),
        ([upload("Transfer-Encoding: xchunked"), b"0\r\n\r\n"], 400),
        ([upload("Transfer-Encoding: chunked, identity"), b"0\r\n\r\n"], 400),
        ([upload("Transfer-Encoding: chunked"), b"zz\r\nab\r\n0\r\n\r\n"], 400),
        ([upload("Transfer-Encoding: chunked"), b"-1\r\nab\r\n0\r\n\r\n"], 400),
        ([upload("Transfer-Encoding: chunked"), b"fffffffffffffffff\r\nab\r\n"], 400),
    ],
)
def test_what_is_no_good_request_is_refused_and_stores_nothing(api, embedded, pieces, status):
    before = datasets(embedded)
    got, _, _ = send(api, *pieces)
    assert got == status
    assert datasets(embedded) == before


@pytest.mark.parametrize("sent", [0, 1, 3, len(CSV) // 2, len(CSV) - 1])
@pytest.mark.parametrize("announced", ["Content-Length: 204", "Transfer-Encoding: chunked"])
def test_an_upload_that_breaks_off_is_no_dataset(api, embedded, announced, sent):
    assert len(CSV) == 204
    before, body = datasets(embedded), CSV[:sent]
    if "chunked" in announced:
        body = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
    got, _, answer = send(api, upload(announced), body, cut=True)
    assert got == 400
    assert "broke off" in json.loads(answer)["detail"]
    assert datasets(embedded) == before


@pytest.mark.parametrize("announced", ["Content-Length: 204", "Transfer-Encoding: chunked"])
def test_an_upload_that_is_whole_is_one(api, embedded, announced):
    before, body = datasets(embedded), CSV
    if "chunked" in announced:
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    got, _, _ = send(api, upload(announced), body)
    assert got == 201
    assert datasets(embedded) == before + 1


def test_a_request_with_both_lengths_is_read_as_chunked_and_nothing_is_left_over(api):
    """As RFC 9112 has it: the server drops the length, so no second request can hide behind it."""
    lines = ["Content-Length: 4", "Transfer-Encoding: chunked"]
    hidden = head("GET", "/v1/nothing", "Host: localhost")
    got, _, body = send(api, upload(*lines), b"0\r\n\r\n" + hidden)
    assert got == 422
    assert json.loads(body)["instance"] == "/v1/datasets"


@pytest.mark.parametrize("start", [upload("Content-Length: 100000"), upload()[:-2], upload()[:20]])
def test_many_who_send_slowly_keep_nobody_from_being_served(api, start):
    slow = [socket.create_connection((api.host, api.port)) for _ in range(SLOW_CLIENTS)]
    try:
        for connection in slow:
            connection.sendall(start)
        with Caller(base_url=str(api), timeout=10) as caller:
            assert caller.get("/v1/jobs").status_code == 200
            assert caller.upload()
    finally:
        for connection in slow:
            connection.close()


def test_a_body_that_takes_too_long_is_refused(start):
    command = start("serve", CHAINRULE_BODY_SECONDS="1")
    with Caller(base_url=command.url, timeout=30) as caller:
        caller.wait_until_ready()
        api = httpx.URL(command.url)
        begin = time.monotonic()
        got, _, body = send(api, upload("Content-Length: 1000"), b"a,b\n")
        assert got == 408
        assert "within 1 s" in json.loads(body)["detail"]
        assert 0.9 < time.monotonic() - begin < 10
        assert caller.get("/v1/jobs").status_code == 200


def test_a_large_body_takes_no_memory_and_a_stranger_is_not_listened_to(start, tmp_path):
    limit = Settings().upload_limit_bytes
    command = start("serve", CHAINRULE_API_KEYS='{"ada": "her key"}')
    with Caller(base_url=command.url, timeout=60) as caller:
        caller.wait_until_ready()
        api = httpx.URL(command.url)
        before = memory(tmp_path)
        piece = b"1" * (1 << 20)
        pieces = [b"%x\r\n%s\r\n" % (len(piece), piece)] * ((limit >> 20) + 8)
        got, _, _ = send(api, upload("Transfer-Encoding: chunked"), *pieces)
        assert got == 401
        mine = upload("Transfer-Encoding: chunked", "Authorization: Bearer her key")
        got, _, _ = send(api, mine, *pieces)
        assert got == 413
        assert memory(tmp_path) - before < 64 << 20


def memory(home):
    """Return what the processes of a service that serve HTTP have in memory."""
    return sum(p.memory_info().rss for p in alive(home) if "granian" in p.cmdline())


def test_every_answer_tells_a_browser_to_do_nothing_with_it(api):
    for path in ("/v1/jobs", "/v1/nothing", "/healthz/live", "/openapi.json"):
        headers = httpx.get(f"{api}{path}".replace("//v1", "/v1")).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert "access-control-allow-origin" not in headers
    page = httpx.get(api.join("/docs")).headers["content-security-policy"]
    assert "default-src 'self'" in page
    assert "script-src 'self' 'sha256-" in page


def test_the_service_does_not_outgrow_its_memory_by_what_it_refused(embedded):
    """After all that, each of its processes is as large as one that has just begun, or so."""
    largest = max(process.memory_info().rss for process in alive(embedded.home))
    assert largest < 600 << 20, [
        (psutil.Process(p.pid).cmdline()[:4], p.memory_info().rss) for p in alive(embedded.home)
    ]
