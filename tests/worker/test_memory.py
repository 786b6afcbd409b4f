"""A limit of memory is felt as a MemoryError, and by nothing that has to go on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from app.config import child_environment
from engine.data.formats.ingestion import ingest
from tests.worker.work import IRIS

ROOT = Path(__file__).parents[2]
MIB = 2**20

BEGIN = """
import sys
import numpy as np
from threadpoolctl import threadpool_limits
from engine.data.formats.stored import read_table
from worker.memory import limit_memory
threadpool_limits(1, user_api="blas")
limit_memory(int(sys.argv[1]))
"""
"""What a worker's child does before its first job, and the names that the tests use."""


def end_of(code: str, *arguments: str, limit_bytes: int = 64 * MIB) -> str:
    """Run code in a process with so much to take; return what it printed."""
    ran = subprocess.run(
        [sys.executable, "-c", BEGIN + code, str(limit_bytes), *arguments],
        cwd=ROOT,
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@pytest.mark.parametrize("make", ["empty", "zeros", "ones"])
def test_what_goes_beyond_the_limit_is_a_memory_error_and_what_stays_below_is_had(make):
    taking = f"""
try:
    np.{make}(80 * 2**20, np.uint8)
except MemoryError:
    print("refused", end=" ")
print(np.{make}(40 * 2**20, np.uint8).nbytes)
"""
    assert end_of(taking) == f"refused {40 * MIB}"


def test_what_was_given_back_can_be_had_again():
    assert end_of("for _ in range(10): np.ones(40 * 2**20, np.uint8)\nprint('had')") == "had"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_to_multiply_and_to_print_where_nothing_is_left_does_not_end_the_process(dtype):
    product = f"""
square = np.ones((1000, 1000), np.{dtype})
result, rest = np.empty_like(square), []
for size in (2**20, 2**16, 2**12):
    try:
        while True:
            rest.append(np.empty(size, np.uint8))
    except MemoryError:
        pass
np.matmul(square, square, out=result)
print(result[0, 0])
"""
    assert end_of(product) == "1000.0"


@pytest.mark.parametrize("limit_bytes", [64 * MIB, 1088 * MIB])
def test_a_table_is_read_with_little_at_hand_and_leaves_the_rest_of_it(tmp_path, limit_bytes):
    kept = tmp_path / "iris.arrow"
    ingest(IRIS, "csv", kept)
    reading = """
from pathlib import Path
rows = read_table(Path(sys.argv[2])).rows
rest = np.empty(int(sys.argv[1]) - 40 * 2**20, np.uint8)
print(rows)
"""
    assert end_of(reading, str(kept), limit_bytes=limit_bytes) == "150"
