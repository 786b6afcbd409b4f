"""A check that raises or hangs is a finding, and holds up no other."""

from __future__ import annotations

import threading
import time

from app.config import Settings
from app.doctor.checks import Check, Finding, State, examine, ok


def passing(_settings):
    yield ok("passing", "fine")


def failing(settings):
    yield ok("first", "fine")
    raise ConnectionError(f"cannot reach {settings.broker_url}\n(and much more)")


def test_what_a_check_raises_is_a_finding_with_its_advice_and_what_it_found_before_stands():
    checks = [Check("failing", failing, "start it"), Check("passing", passing, "")]
    found = examine(checks, Settings(broker_url="redis://localhost"))
    wrong = "ConnectionError: cannot reach redis://localhost"
    assert found == [
        ok("first", "fine"),
        Finding("failing", State.WRONG, wrong, "start it"),
        ok("passing", "fine"),
    ]


def test_what_a_library_says_does_not_show_a_password():
    [_, found] = examine(
        [Check("f", failing, "")], Settings(broker_url="redis://:s3cret@localhost")
    )
    assert "s3cret" not in found.fact
    assert "localhost" in found.fact


def test_checks_that_hang_cost_one_time_limit_together():
    over = threading.Event()

    def hanging(_settings):
        yield ok("first", "fine")
        over.wait()

    begin = time.monotonic()
    checks = [Check("hanging", hanging, "start it")] * 3 + [Check("passing", passing, "")]
    found = examine(checks, Settings(), seconds=0.3)
    over.set()
    assert time.monotonic() - begin < 2
    wrong = Finding("hanging", State.WRONG, "no answer within 0.3 s", "start it")
    assert found == [ok("first", "fine"), wrong] * 3 + [ok("passing", "fine")]
