"""The fuzzers' targets take their seeds, what was found once, and some mutations of both."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import SEEDS, TARGETS

FOUND = sorted((Path(__file__).parent / "found").glob("*/*"))

changes = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 8), st.binary(max_size=8)), max_size=4)


def mutated(seed: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """Replace bytes at some places of a seed by others."""
    for place, length, piece in edits:
        at = round(place * len(seed))
        seed = seed[:at] + piece + seed[at + length :]
    return seed


@pytest.mark.parametrize("name", TARGETS)
def test_what_strangers_send_is_taken_or_refused(name):
    @settings(derandomize=True, deadline=None, max_examples=60, database=None)
    @given(st.sampled_from(SEEDS[name]), changes)
    def attack(seed, edits):
        TARGETS[name](mutated(seed, edits))

    for seed in SEEDS[name]:
        TARGETS[name](seed)
    attack()


@pytest.mark.parametrize("file", FOUND, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_what_was_found_once_is_found_no_more(file):
    TARGETS[file.parent.name](file.read_bytes())
