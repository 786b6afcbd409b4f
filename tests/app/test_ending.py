"""A signal that asks the process to end is heard beside the handler that the server has set."""

from __future__ import annotations

import signal

import pytest

from app.ending import Ending


@pytest.fixture
def handled():
    """The signals that the server's handlers have seen."""
    seen = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, lambda number, _frame: seen.append(number))
    yield seen
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_end_is_heard_from_then_on(handled, number):
    ending = Ending()
    ending.listen()
    assert not ending()
    signal.raise_signal(number)
    assert [ending(), ending()] == [True, True]
    assert handled == [number]


def test_another_signal_is_no_request_to_end(handled):
    ending = Ending()
    ending.listen()
    signal.raise_signal(signal.SIGUSR1)
    assert not ending()
    assert handled == [signal.SIGUSR1]
