"""What owners may do is counted once, whichever process of the API they come to."""

from __future__ import annotations

import httpx
import pytest

from tests.e2e.services import Caller

pytestmark = pytest.mark.e2e

LIMIT = 40
LARGE = b"a,b\n" + b"1,2\n" * 50_000
"""More than is received of one who has not shown a key."""


def test_two_processes_share_the_limits(start, sqlite_url):
    command = start(
        "api",
        CHAINRULE_API_WORKERS="2",
        CHAINRULE_DATABASE_URL=sqlite_url,
        CHAINRULE_API_KEYS='{"ada": "hers"}',
        CHAINRULE_OWNER_REQUESTS_PER_MINUTE=str(LIMIT),
        CHAINRULE_FAILED_LOGINS_PER_MINUTE="4",
    )
    with Caller(base_url=command.url, timeout=30) as caller:
        caller.wait_until_ready()
    url, mine = f"{command.url}/v1/datasets", {"Authorization": "Bearer hers"}
    csv = {**mine, "Content-Type": "text/csv"}
    uploaded = httpx.post(url, headers=csv, content=LARGE)
    assert uploaded.status_code == 201
    assert uploaded.headers["RateLimit"].startswith(f'"requests";r={LIMIT - 1};')
    # Each of these opens a connection, and comes to one process or the other.
    statuses = [httpx.get(url, headers=mine).status_code for _ in range(LIMIT + 10)]
    assert set(statuses) == {200, 429}
    assert LIMIT - 1 <= statuses.count(200) <= LIMIT + 2  # some come back meanwhile
    wrong = [httpx.get(url, headers={"Authorization": "Bearer x"}) for _ in range(12)]
    assert 4 <= [answer.status_code for answer in wrong].count(401) <= 5
