"""Bad datasets that are no text: arrays, columns and images that are none, and bombs of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.e2e.bad_inputs import files
from tests.e2e.bad_inputs.files import array_of, arrow, image, npy, npz, parquet
from tests.e2e.bad_inputs.rows import (
    ARROW,
    CELLS,
    NPZ,
    PARQUET,
    UNPACKED,
    UNPACKED_LIMIT_BYTES,
    ZIP,
    Row,
    uploaded,
)

NUMBERS = "expected numbers, booleans or strings"


def arrays(item: int, name: str, body: bytes | Callable[[], bytes], says: str) -> Row:
    return uploaded(item, name, body, says, NPZ)


def array(
    item: int, name: str, descr: str, shape: str, says: str, data: bytes = b"", **said: Any
) -> Row:
    return arrays(item, name, array_of(npy(repr(descr), shape, data, **said)), says)


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
    array(68, "more bytes than numbers", "<f8", "(1,)", "cannot be read as arrays", bytes(16)),
    array(68, "an order that is no boolean", "<f8", "(1,)", "cannot be", bytes(8), fortran="x"),
    array(68, "fewer bytes than numbers", "<f8", "(9,)", "cannot be read as arrays", bytes(8)),
]

COLUMNS = [
    uploaded(69, "Parquet cut to its first bytes", b"PAR1", "not a whole Parquet file", PARQUET),
    uploaded(
        69, "Parquet cut short", lambda: parquet(x=[1.0] * 99)[:-9], "not a whole Parquet", PARQUET
    ),
    uploaded(
        69,
        "Parquet that is wrong about its end",
        lambda: files.damaged(parquet(x=[1.0] * 99), at=-7),
        "not a whole Parquet",
        PARQUET,
    ),
    uploaded(
        69,
        "Parquet of 10,000,000 rows in some kB",
        lambda: parquet(x=np.zeros(10**7, np.int8)),
        f"holds more than the {CELLS} values allowed",
        PARQUET,
    ),
    uploaded(
        69,
        "a Parquet bomb",
        lambda: parquet(x=["a" * (1 << 15)] * (1 + (UNPACKED_LIMIT_BYTES >> 15))),
        f"unpacks to more than the {UNPACKED} bytes",
        PARQUET,
    ),
    uploaded(
        69,
        "nested columns",
        lambda: parquet(x=[[1], [2]]),
        "column 'x': is nested",
        PARQUET,
    ),
    uploaded(60, "a name twice in Parquet", lambda: files.twice(), "appears 2 times", PARQUET),
    uploaded(69, "Arrow cut short", lambda: arrow(x=[1.0] * 99)[:-9], "not a whole Arrow", ARROW),
    uploaded(
        69,
        "an Arrow bomb",
        lambda: arrow(x=np.zeros((UNPACKED_LIMIT_BYTES >> 3) + 1)),
        f"unpacks to more than the {UNPACKED} bytes",
        ARROW,
    ),
]

ARCHIVES = [
    *(
        uploaded(
            66,
            f"{what} in an archive of images",
            lambda name=name: files.archive((name, image())),
            "leads out of the archive",
            ZIP,
        )
        for what, name in (
            ("../", "../a/1.png"),
            ("a root", "/etc/1.png"),
            ("..\\", "a\\..\\1.png"),
        )
    ),
    uploaded(66, "a link among images", files.symlink("a/1.png"), "is a link", ZIP),
    uploaded(
        66,
        "an encrypted image",
        lambda: files.encrypted(files.archive(("a/1.png", image()))),
        "is encrypted",
        ZIP,
    ),
    uploaded(
        66,
        "an archive in an archive",
        lambda: files.archive(("a/1.zip", files.archive(("a/1.png", image())))),
        "is no image",
        ZIP,
    ),
    arrays(
        66, "an archive in an archive of arrays", lambda: array_of(npz(a=[1])), "is not an array"
    ),
    uploaded(
        66,
        "an image bomb of 10^10 pixels",
        lambda: files.archive(("a/1.png", image(10**5, 10**5))),
        "100,000 by 100,000 pixels",
        ZIP,
    ),
    uploaded(
        66,
        "1 MB of images that unpack to 1 GiB",
        lambda: files.deep(1 << 30, "a/1.png"),
        "bytes allowed",
        ZIP,
    ),
    arrays(
        67,
        "1 MB of NPZ that unpack to 1 GiB",
        lambda: files.deep(1 << 30, "a.npy", npy("'<f8'", f"({1 << 27},)")),
        f"than the {UNPACKED} bytes",
    ),
    arrays(
        67,
        "1 MB of NPZ that say 1 kB and unpack to 1 GiB",
        lambda: files.deep(1 << 30, "a.npy", npy("'<f8'", f"({1 << 27},)"), said=1 << 10),
        "cannot be read as arrays",
    ),
]

ROWS = [*ARRAYS, *COLUMNS, *ARCHIVES]
