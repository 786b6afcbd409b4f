"""What owners may do is counted once, whichever process of the API they come to."""

from __future__ import annotations

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
    # Each request opens a connection, and comes to one process or the other.
    with Caller(base_url=command.url, headers={"Connection": "close"}, timeout=30) as caller:
        caller.wait_until_ready()
        url, mine = "/v1/datasets", {"Authorization": "Bearer hers"}
        uploaded = caller.post(url, headers={**mine, "Content-Type": "text/csv"}, content=LARGE)
        assert uploaded.status_code == 201
        assert uploaded.headers["RateLimit"].startswith(f'"requests";r={LIMIT - 1};')
        statuses = [caller.get(url, headers=mine).status_code for _ in range(LIMIT + 10)]
        assert set(statuses) == {200, 429}
        assert LIMIT - 1 <= statuses.count(200) <= LIMIT + 2  # some come back meanwhile
        wrong = {"Authorization": "Bearer x"}
        statuses = [caller.get(url, headers=wrong).status_code for _ in range(12)]
        assert 4 <= statuses.count(401) <= 5
