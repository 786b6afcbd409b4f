"""An upload that says what its digest is comes as it was sent, or is refused."""

from __future__ import annotations

import base64
import hashlib

import pytest

from app.api.digests import ALGORITHMS
from tests.app.api.callers import IRIS, problem

OTHER = "crc32c=:AAAAAA==:"


def digest(body, name="sha-256"):
    found = hashlib.new(ALGORITHMS[name], body).digest()
    return f"{name}=:{base64.b64encode(found).decode()}:"


BODIES = {
    "text/csv": IRIS,
    "multipart/form-data; boundary=b": (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
        + IRIS
        + b"\r\n--b--\r\n"
    ),
}


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("kind", BODIES)
def test_a_body_is_taken_with_its_digest_and_refused_with_another(ada, name, kind):
    body = BODIES[kind]
    right, wrong = digest(body, name), digest(body + b"\n", name)

    def send(said):
        headers = {"Content-Digest": said, "Idempotency-Key": "once"}
        return ada.post("/v1/datasets", data=body, content_type=kind, headers=headers)

    refused = problem(send(wrong), 400)
    assert refused["detail"].startswith(f"Content-Digest: the body that came has {right}")
    assert "send both again" in refused["detail"]
    problem(send(f"{digest(body)}, {digest(b'', 'sha-512')}"), 400)
    assert ada.get("/v1/datasets").json["data"] == []
    answer = send(f"{OTHER}, {right}")
    assert answer.status_code == 201, answer.text
    assert "Idempotent-Replayed" not in answer.headers


@pytest.mark.parametrize(
    "said", ["", "x", "sha-256", "sha-256=abc", "sha-256=:?:", OTHER, f"{digest(IRIS)}, x"]
)
def test_what_is_no_digest_that_is_known_is_refused_with_what_would_do(ada, said):
    answer = ada.send(headers={"Content-Digest": said})
    assert "expected one of sha-256=:BASE64:, sha-512" in problem(answer, 400)["detail"]
