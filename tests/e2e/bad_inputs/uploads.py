"""Bad datasets: text that is no table, rows of JSON that are none, and forms without a file."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np

from tests.e2e.bad_inputs import files
from tests.e2e.bad_inputs.files import lines, npz
from tests.e2e.bad_inputs.rows import (
    CELLS,
    CSV,
    DATASETS,
    JSON_ARRAY,
    NDJSON,
    NPZ,
    UNPACKED,
    UNPACKED_LIMIT_BYTES,
    Row,
    World,
    uploaded,
)
from tests.e2e.services import IRIS

FORM = "multipart/form-data; boundary=b"


def filed(
    item: int, name: str, filename: str, status: int, says: str = "", data: bytes = b""
) -> Row:
    """Upload a form with one file."""
    body = files.form(files.part("file", data, filename))
    return uploaded(item, name, body, says, FORM, status)


def sent_with(item: int, name: str, table: Callable[[], bytes], says: str, **options: Any) -> Row:
    """Upload a form with a table and options."""

    def body() -> bytes:
        said = files.part("options", json.dumps(options).encode())
        return files.form(files.part("file", table(), "x.csv"), said)

    return uploaded(item, name, body, says, FORM)


def trained(
    item: int,
    name: str,
    table: bytes | Callable[[], bytes],
    pointer: str,
    says: str,
    **changes: Any,
) -> Row:
    """Train on a table that is good to upload, and no good for that."""

    def send(w: World) -> httpx.Response:
        content = table if isinstance(table, bytes) else table()
        made = w.ada.post(DATASETS, content=content, headers={"Content-Type": CSV}).json()["id"]
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
    uploaded(57, "NUL in a value", b"a,b\n1,\0\n", "line 2: holds the control character 0x00"),
    sent_with(
        58,
        "a word half-way down 100,000 numbers",
        lambda: lines("x,y", *["1,a"] * 50_000, "one,a", *["1,a"] * 50_000),
        "column 'x': line 50,002 holds 'one', but `types` says number",
        types={"x": "number"},
    ),
    uploaded(
        58,
        "the 30th of February",
        lines("day,x", "2026-02-28,1", "2026-02-30,2", "2026-03-01,3"),
        "column 'day': line 3 holds '2026-02-30', but no calendar has such a day",
    ),
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
    uploaded(
        65,
        "1 MB of gzip that unpack to 1 GiB",
        lambda: gzip.compress(bytes(1 << 24)) * 64,
        f"the gzip file unpacks to more than the {UNPACKED} bytes allowed",
    ),
    uploaded(
        65,
        "a zstd bomb",
        lambda: files.zstd_bomb(UNPACKED_LIMIT_BYTES + 2),
        f"the zstd file unpacks to more than the {UNPACKED} bytes allowed",
    ),
    uploaded(65, "gzip in gzip", gzip.compress(gzip.compress(lines("a", "1"))), "line 1: holds"),
]

RECORDS = [
    uploaded(
        53,
        "an object of 100,000 names",
        lambda: json.dumps([{f"c{n}": 1 for n in range(100_000)}]).encode(),
        "line 1: 100,000 columns; at most 16,384 are allowed",
        JSON_ARRAY,
    ),
    uploaded(
        60, "a name twice in an object", b'[{"a": 1, "a": 2}]', "line 1: the name 'a'", JSON_ARRAY
    ),
    uploaded(70, "a row of JSON that is nested", b'[{"a": []}]', "holds an array", JSON_ARRAY),
    uploaded(70, "rows that are arrays", b"[[1, 2], [3]]", "line 1: expected an", JSON_ARRAY),
    uploaded(70, "null for a row", b'[{"a": 1}, null]', "line 1: expected an object", JSON_ARRAY),
    uploaded(70, "JSON cut short", b'[{"a": 1},', "line 1: expected an object after", JSON_ARRAY),
    uploaded(70, "a line that is no JSON", b'{"a": 1}\n{"a":', "line 2: not JSON", NDJSON),
    uploaded(70, "a line that is no object", b'{"a": 1}\n7', "line 2: expected an object", NDJSON),
    uploaded(70, "objects without names", b"{}\n{}\n", "the objects are empty", NDJSON),
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
    trained(
        61,
        "a target that is all missing",
        lines("x,y", "1,", "2,NA"),
        "/target",
        "column 'y' has no value in any of its 2 rows",
    ),
    trained(
        61,
        "a target of 100,000 classes",
        lambda: lines("x,y", *(f"1,w{n}" for n in range(100_000))),
        "/target",
        "column 'y' holds 100,000 values or more, too many to be classes; join the rare ones",
    ),
    trained(
        61,
        "a feature of 100,000 levels that all differ",
        lambda: lines("x,y", *(f"w{n},{n % 2}" for n in range(100_000))),
        "/features/0",
        "100000 of 100000 values differ; leave it out by `columns`",
        features=["x"],
    ),
    sent_with(
        61,
        "100,000 levels of what `types` calls a category",
        lambda: lines("x,y", *(f"w{n},{n % 2}" for n in range(100_000))),
        "column 'x': more than 65,536 levels; `types` may say text",
        types={"x": "category"},
    ),
    trained(
        62, "one row and no more", lines("x,y", "1,a"), "/target", "column 'y' holds one class"
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

FORMS = [
    uploaded(71, "a table that is called arrays", IRIS.read_bytes(), "not an NPZ file", NPZ),
    uploaded(71, "arrays that are called a table", lambda: npz(a=np.zeros(3)), "", CSV),
    filed(71, "a file of an unknown kind", "x.exe", 422, "/format: cannot tell the format"),
    filed(
        72, "a filename that is a path", "../../etc/passwd", 422, "/format: cannot tell the format"
    ),
    filed(72, "an empty filename", "", 400, "expected one file with a filename"),
    filed(72, "the filename CON", "CON", 422, "/format: cannot tell the format"),
    filed(72, "a filename with NUL", "a\0b", 422, "/format: cannot tell the format of 'a_b'"),
    filed(72, "a filename of 300 characters", "x" * 300, 422, "/format: cannot tell the format"),
    filed(
        72,
        "a filename that reads from right to left",
        "\u202evsc.exe",
        422,
        "/format: cannot tell the format of '_vsc.exe'",
    ),
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

DIGESTS = [
    uploaded(
        74,
        "the digest of another table",
        lines("a", "1"),
        "not the one that was sent; send both again",
        status=400,
        Content_Digest=f"sha-256=:{base64.b64encode(bytes(32)).decode()}:",
    ),
    uploaded(
        74,
        "a digest that is none",
        lines("a", "1"),
        "Content-Digest: expected one of sha-256=:BASE64:",
        status=400,
        Content_Digest="sha-256=abc",
    ),
]

ROWS = [*TEXT, *RECORDS, *VALUES, *FORMS, *DIGESTS]
