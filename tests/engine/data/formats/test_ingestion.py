"""The way of a file: in memory that does not grow with it, also where it is refused."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.config import child_environment
from engine.data.formats.stored import read_table
from tests.engine.data.formats.files import npz

MIB = 2**20


def lines(rows):
    rng = np.random.default_rng(3)
    numbers = rng.normal(size=1000).round(4)
    text = "".join(
        f"{x},{x:.1f},{'ab'[int(x > 0)]},2026-01-0{1 + i % 9}\n" for i, x in enumerate(numbers)
    )
    return "number,rounded,letter,day\n" + text * (rows // 1000)


PEAK = """
import resource, sys
from pathlib import Path
from engine.data.formats.ingestion import ingest
from engine.data.formats.kinds import Limits
from engine.errors import FormatError
kept = Path(sys.argv[2] + ".arrow")
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
warm, kind = Path(sys.argv[1]), sys.argv[3]
ingest(warm, kind, kept)
before = peak()
try:
    print(ingest(Path(sys.argv[2]), kind, kept).rows)
except FormatError as error:
    print(error)
print(peak() - before)
"""


def memory_of(folder, content, file_format, warm):
    """Read a file in a process of its own; return what it said, and the KiB that it took."""
    small, large = folder.path / "small", folder.path / "large"
    small.write_bytes(warm)
    large.write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(small), str(large), file_format],
        env=child_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    said, kibibytes = done.stdout.splitlines()
    return said, int(kibibytes)


def test_memory_does_not_grow_with_the_file(folder):
    some, many = lines(200_000).encode(), lines(1_000_000).encode()
    said, kibibytes = memory_of(folder, many, "csv", some)
    assert said == "1000000"
    assert len(many) > 20 * MIB
    assert kibibytes < 10 * 1024


def parquet(**columns):
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, compression="zstd", use_dictionary=False)
    return out.getvalue()


def packed(**arrays):
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def arrow(**columns):
    out, table = io.BytesIO(), pa.table(columns)
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(out, table.schema, options=options) as writer:
        writer.write_table(table)
    return out.getvalue()


CSV, LINE = b"x,y\n1,2\n", b'{"x": 1}'
ZEROS = np.zeros(32 * MIB)
BOMBS = {
    "parquet": ("parquet", lambda: parquet(x=ZEROS), parquet(x=[1.0]), "more than 200 times"),
    "arrow": ("arrow", lambda: arrow(x=ZEROS), arrow(x=[1.0]), "more than 200 times"),
    "npz": ("npz", lambda: packed(x=ZEROS), packed(x=[1.0]), "more than 200 times"),
    "columns": ("csv", lambda: b"x," * 5 * MIB + b"y\n", CSV, "columns; at most"),
    "quote": (
        "csv",
        lambda: b'x\n"' + b"a" * 49 * MIB,
        CSV,
        "line 2: a quoted value is not closed",
    ),
    "row": ("csv", lambda: b"x\n" + b"a" * 49 * MIB, CSV, "line 2: a row that is longer"),
    "string": ("ndjson", lambda: b'{"x": "' + b"a" * 49 * MIB, LINE, "line 1: a row that is"),
    "array": (
        "json",
        lambda: b'[{"x": [' + b"12345," * 3 * MIB,
        LINE,
        "line 1: a row that is longer",
    ),
}


@pytest.mark.parametrize(("file_format", "make", "warm", "reason"), BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_with_little_memory(folder, file_format, make, warm, reason):
    said, kibibytes = memory_of(folder, make(), file_format, warm)
    assert reason in said
    assert kibibytes < 128 * 1024


def test_what_is_decided_late_holds_from_the_first_row_on(folder, small_pieces):
    small_pieces(64)
    rows = [f"{row},{row % 3},a,2026-01-01" for row in range(50)]
    result = folder.ingest("\n".join(["i,n,c,t", *rows, "1,x,?,some day", ""]))
    assert [column.type for column in result.columns] == ["integer", "category", *["category"] * 2]
    table = read_table(folder.kept)
    assert table.column("n").levels == ("0", "1", "2", "x")
    assert table.column("i").values.tolist() == [*range(50), 1]


def test_a_profile_is_what_was_kept(folder):
    result = folder.ingest(npz(x=np.arange(100.0), y=np.arange(100) % 3), "npz")
    assert [column.name for column in result.columns] == ["x", "y"]
    assert [column.distinct for column in result.columns] == [100, 3]
    json.dumps([vars(column) for column in result.columns])
