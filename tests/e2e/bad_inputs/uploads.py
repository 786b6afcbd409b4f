"""Bad datasets: text that is no table, arrays that are none, bombs, and forms without a file."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np

from tests.e2e.bad_inputs import files
from tests.e2e.bad_inputs.files import array_of, lines, npy, npz
from tests.e2e.bad_inputs.http import DATASETS
from tests.e2e.bad_inputs.rows import Row, World
from tests.e2e.services import IRIS

UNPACKED_LIMIT_BYTES = 64 << 20

PARQUET, JSON = "application/vnd.apache.parquet", "application/json"
CSV, NPZ, FORM = "text/csv", "application/x-npz", "multipart/form-data; boundary=b"
CELL_LIMIT = 3_000_000
CELLS = f"{CELL_LIMIT:,}"
UNPACKED = f"{UNPACKED_LIMIT_BYTES:,}"
NUMBERS = "expected numbers, booleans or strings"


def uploaded(
    item: int,
    name: str,
    body: bytes | Callable[[], bytes],
    says: str,
    kind: str = CSV,
    status: int = 422,
) -> Row:
    """Upload bytes, which are made only now where they are many."""

    def send(w: World) -> httpx.Response:
        content = body if isinstance(body, bytes) else body()
        return w.ada.post(DATASETS, content=content, headers={"Content-Type": kind})

    return Row(item, name, send, status, says)


def arrays(item: int, name: str, body: bytes | Callable[[], bytes], says: str) -> Row:
    return uploaded(item, name, body, says, NPZ)


def array(
    item: int, name: str, descr: str, shape: str, says: str, data: bytes = b"", **said: Any
) -> Row:
    return arrays(item, name, array_of(npy(repr(descr), shape, data, **said)), says)


def filed(
    item: int, name: str, filename: str, status: int, says: str = "", data: bytes = b""
) -> Row:
    """Upload a form with one file."""
    body = files.form(files.part("file", data, filename))
    return uploaded(item, name, body, says, FORM, status)


def trained(item: int, name: str, table: bytes, pointer: str, says: str, **changes: Any) -> Row:
    """Train on a table that is good to upload, and no good for that."""

    def send(w: World) -> httpx.Response:
        made = w.ada.post(DATASETS, content=table, headers={"Content-Type": CSV}).json()["id"]
        try:
            return w.ada.post("/v1/jobs", json=w.spec(dataset=made, **{"target": "y", **changes}))
        finally:
            w.ada.delete(f"{DATASETS}/{made}")

    return Row(item, name, send, 422, says, pointer)


TEXT = [
    uploaded(50, "an empty file", b"", "the file is empty; expected a header line and rows"),
    uploaded(50, "blank lines", b"\n\n", "the file is blank"),
    uploaded(51, "only a header", lines("a,b"), "line 1: only a header"),
    uploaded(52, "a short row", lines("a,b", "1,2", "3"), "line 3: expected 2 values"),
    uploaded(52, "a long row", lines("a,b", "1,2,3"), "line 2: expected 2 values"),
    uploaded(
        53,
        "1,000,000 columns",
        lambda: lines(",".join(f"c{n}" for n in range(10**6)), ",".join(["1"] * 10**6)),
        "line 1: 1,000,000 columns; at most 16,384 are allowed",
    ),
    uploaded(
        53,
        "1,000,000 columns whose names have line breaks",
        lambda: b'"\n",' * 10**6 + b"x\n1\n",
        "columns; at most 16,384 are allowed",
    ),
    uploaded(
        54,
        "more values than may be read",
        lambda: b"a\n" + b"1\n" * 4_000_000,
        f"holds more than the {CELLS} values allowed",
    ),
    uploaded(
        54,
        "a row of 2,000,000 values",
        lambda: b"a,b\n" + b"1," * 2_000_000 + b"\n",
        "line 2: expected 2 values",
    ),
    uploaded(
        55,
        "a string of 200,000 characters",
        lambda: lines("a,b", "x,1", "y" * 200_000 + ",2"),
        "column 'a': line 3 holds a string of 200,000 bytes",
    ),
    uploaded(
        55,
        "a name of 200,000 characters",
        lambda: lines("a" * 200_000 + ",b", "1,2"),
        "line 1: field larger than field limit",
    ),
    uploaded(
        56,
        "a quote that is not closed",
        lines("a,b", "1,2", '3,"4', "5,6"),
        "line 3: a quoted value is not closed",
    ),
    uploaded(
        56, "a quote in the header", lines('a,"b', "1,2"), "line 1: a quoted value is not closed"
    ),
    uploaded(57, "NUL in a name", b"a\0b,c\n1,2\n", "line 1: holds the control character 0x00"),
    uploaded(60, "a name twice", lines("a,a", "1,2"), "line 1, column 'a': appears 2 times"),
    uploaded(60, "no name", lines("a,", "1,2"), "line 1: column 2 has no name"),
    uploaded(
        60, "a name of 10 kB", lines("a" * 10_000, "1"), "line 1: column 1 has a name of 10000"
    ),
    uploaded(
        60, "a control character in a name", lines("a\x85b", "1"), "line 1: column 1 has a name"
    ),
    uploaded(
        60, "a name that is not NFC", lines("e\u0301", "1"), "line 1: column 1 has a name that is"
    ),
    uploaded(64, "bytes that are no text", b"a,b\n1,\x81\n", "line 2: holds bytes that are not"),
    uploaded(
        65,
        "a gzip bomb",
        lambda: files.gzip_bomb(UNPACKED_LIMIT_BYTES + 2),
        f"the gzip file unpacks to more than the {UNPACKED} bytes allowed",
    ),
    uploaded(
        65, "gzip that is cut", gzip.compress(IRIS.read_bytes())[:-9], "not a whole gzip file"
    ),
    uploaded(65, "gzip and more", gzip.compress(lines("a", "1")) + b"x", "not a whole gzip file"),
    uploaded(
        65,
        "two gzip files of which the second is no part of the table",
        gzip.compress(lines("a,b", "1,2")) + gzip.compress(lines("1")),
        "line 3: expected 2 values",
    ),
    uploaded(65, "gzip in gzip", gzip.compress(gzip.compress(lines("a", "1"))), "line 1: holds"),
]

VALUES = [
    trained(
        58,
        "a word where numbers are",
        lines("x,y", *["1,1"] * 9, "1,one"),
        "/task",
        "regression needs numbers",
        task="regression",
    ),
    trained(
        59, "1e999", lines("x,y", "1e999,a", "1,b"), "/features", "1 infinite, the first in row 1"
    ),
    trained(59, "inf", lines("x,y", "inf,a", "1,b"), "/features", "1 infinite, the first in row 1"),
    *(
        trained(
            59,
            f"{name}, and no missing value wanted",
            lines("x,y", f"{cell},a", "1,b"),
            "/columns/x/impute",
            "column 'x' has 1 missing, the first in row 1",
            columns={"x": {"impute": "none"}},
        )
        for name, cell in (("nan", "nan"), ("an empty cell", ""))
    ),
    trained(
        61, "no such target", lines("x,y", "1,a", "2,b"), "/target", "no column 'z'", target="z"
    ),
    trained(
        61,
        "a target twice",
        lines("x,y", "1,1", "2,2"),
        "/target/0",
        "given twice",
        target=["y", "y"],
    ),
    trained(62, "one class", lines("x,y", "1,a", "2,a"), "/target", "column 'y' holds one class"),
    trained(
        62,
        "one row",
        lines("x,y", "1,1"),
        "/validation/fraction",
        "one row cannot be divided",
        task="regression",
        validation={"fraction": 0.5},
    ),
]

ARRAYS = [
    arrays(
        66,
        "traversal in the names",
        lambda: npz(**{"../../x\n": np.zeros(2)}),
        "control characters",
    ),
    arrays(66, "300,000 members", lambda: files.crowded(300_000), "lists its members in"),
    arrays(
        66,
        "members that overlap",
        lambda: files.crowded(100, npy("'<f4'", f"({1 << 18},)", bytes(1 << 20))),
        f"unpacks to more than the {UNPACKED} bytes",
    ),
    arrays(66, "an encrypted member", files.encrypted(array_of(b"x")), "cannot be read as arrays"),
    arrays(66, "a symbolic link", files.symlink(), "is not an array"),
    arrays(
        67, "an NPZ bomb", lambda: npz(a=np.zeros((1 << 13, 1 << 10))), f"than the {UNPACKED} bytes"
    ),
    arrays(
        67,
        "more values than may be read",
        lambda: npz(a=np.zeros(60 << 20, np.uint8)),
        f"holds more than the {CELLS} values allowed",
    ),
    arrays(67, "another file inside", files.archive(("readme.txt", b"hello")), "is not an array"),
    arrays(67, "no arrays", lambda: npz(), "holds no arrays"),
    arrays(
        67, "rows that differ", lambda: npz(a=np.zeros(2), b=np.zeros(3)), "column 'b': has 3 rows"
    ),
    arrays(68, "no magic", array_of(b"x" * 100), "is not an array"),
    arrays(
        68, "version 9", array_of(b"\x93NUMPY\x09\x00" + bytes(100)), "cannot be read as arrays"
    ),
    arrays(
        68,
        "a header of 4 GiB",
        array_of(b"\x93NUMPY\x02\x00" + b"\xff" * 4 + b" " * 100),
        "cannot be read as arrays",
    ),
    arrays(
        68, "a header that is code", array_of(npy("__import__('os').getcwd()", "(1,)")), "cannot be"
    ),
    arrays(68, "objects", lambda: npz(a=np.array([{}], object)), "cannot be read as arrays"),
    arrays(68, "a structure", lambda: npz(a=np.zeros(2, [("x", "f4")])), NUMBERS),
    array(68, "strings of nothing", "|S0", f"({10**12},)", NUMBERS),
    array(68, "complex numbers", "<c16", "(1,)", NUMBERS, bytes(16)),
    array(68, "times", "<M8[s]", "(1,)", NUMBERS, bytes(8)),
    array(68, "no dimension", "<f8", "()", "has no rows", bytes(8)),
    array(68, "70 dimensions", "<f8", f"({'1,' * 70})", "cannot be read as arrays", bytes(8)),
    array(68, "a negative length", "<f8", "(-1,)", "cannot be read as arrays"),
    array(68, "a length that overflows", "<f8", f"({2**62}, {2**62})", "cannot be read as arrays"),
    array(
        68, "10^12 numbers in 8 bytes", "<f8", f"({10**12},)", "cannot be read as arrays", bytes(8)
    ),
    array(68, "fewer bytes than numbers", "<f8", "(9,)", "cannot be read as arrays", bytes(8)),
]

FORMS = [
    uploaded(69, "parquet cut short", b"PAR1", "not a whole Parquet file", PARQUET),
    uploaded(70, "a row of JSON that is nested", b'[{"a": []}]', "holds an array", JSON),
    arrays(71, "a table that is called arrays", IRIS.read_bytes(), "not an NPZ file"),
    uploaded(71, "arrays that are called a table", lambda: npz(a=np.zeros(3)), "", CSV),
    filed(71, "a file of an unknown kind", "x.exe", 422, "/format: cannot tell the format"),
    filed(
        72, "a filename that is a path", "../../etc/passwd", 422, "/format: cannot tell the format"
    ),
    filed(72, "an empty filename", "", 400, "expected one file with a filename"),
    filed(72, "the filename CON", "CON", 422, "/format: cannot tell the format"),
    uploaded(
        73, "a form without its part", files.form(files.part("x")), "expected one file", FORM, 400
    ),
    uploaded(
        73,
        "two files",
        files.form(*[files.part("file", lines("a", "1"), "x.csv")] * 2),
        "expected one file",
        FORM,
        400,
    ),
    uploaded(
        73,
        "10,000 parts",
        files.form(*[files.part(f"f{n}") for n in range(10_000)]),
        "",
        FORM,
        413,
    ),
    uploaded(
        73,
        "a form that has no end",
        files.form(files.part("file", b"a", "x.csv"), end=b""),
        "",
        FORM,
        400,
    ),
    uploaded(
        73, "a part with a header of 1 MB", files.form(files.part("n" * 2**20)), "", FORM, 413
    ),
    uploaded(
        73, "a boundary of 10 kB", b"x", "", f"multipart/form-data; boundary={'b' * 10_000}", 400
    ),
    uploaded(
        73,
        "an unknown field",
        files.form(files.part("file", lines("a", "1"), "x.csv"), files.part("colour", b"red")),
        "/colour: no such field",
        FORM,
    ),
]

ROWS = [*TEXT, *VALUES, *ARRAYS, *FORMS]
