"""NPZ files: which arrays become columns, and which are refused."""

from __future__ import annotations

import io
import math
import zipfile

import numpy as np
import pytest

from engine.data.formats import arrays as module
from engine.data.formats.kinds import Limits
from engine.data.formats.stored import first_rows, read_table
from engine.errors import FormatError
from tests.engine.data.formats.files import archive, assert_same_tables, npy, npz, types, values


def test_arrays_become_columns_and_tensors(folder):
    arrays = {
        "number": np.array([1.5, math.nan]),
        "integer": np.array([1, -2]),
        "boolean": np.array([True, False]),
        "word": np.array(["b", "a"]),
        "image": np.arange(12, dtype=np.uint8).reshape(2, 3, 2),
    }
    table = folder.npz(**arrays)
    assert types(table) == {
        "number": "number",
        "integer": "integer",
        "boolean": "boolean",
        "word": "category",
        "image": "tensor",
    }
    assert values(table, "word") == ["b", "a"]
    assert table.column("image").shape == (3, 2)
    assert table.column("image").values.dtype == np.uint8
    np.testing.assert_array_equal(table.column("image").values, arrays["image"])
    assert_same_tables(read_table(folder.kept), table)
    assert first_rows(folder.kept, 1) == [
        {
            "number": 1.5,
            "integer": 1,
            "boolean": True,
            "word": "b",
            "image": [[0, 1], [2, 3], [4, 5]],
        }
    ]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [*np.typecodes["AllInteger"], "e", "f", "d"])
def test_numbers_of_every_size_and_byte_order_are_read(folder, kind, order):
    numbers = np.array([0, 1, 3], dtype=np.dtype(kind).newbyteorder(order))
    assert values(folder.npz(x=numbers), "x") == [0, 1, 3]
    tensor = folder.npz(x=np.stack([numbers, numbers], axis=1)).column("x")
    assert tensor.values.tolist() == [[0, 0], [1, 1], [3, 3]]
    assert tensor.values.dtype == np.dtype(kind)


def test_strings_of_either_byte_order_are_read(folder):
    words = np.array(["b", "ä", "b"])
    for lying in (words, words.astype(words.dtype.newbyteorder(">"))):
        assert values(folder.npz(x=lying), "x") == ["b", "ä", "b"]


def test_arrays_that_lie_otherwise_in_memory_are_read_in_order(folder):
    numbers = np.arange(12.0).reshape(3, 4)
    table = folder.npz(fortran=np.asfortranarray(numbers), every_other=numbers[:, 1][::-1])
    np.testing.assert_array_equal(table.column("fortran").values, numbers)
    assert values(table, "every_other") == [9, 5, 1]


def test_compressed_arrays_are_read(folder):
    content = io.BytesIO()
    np.savez_compressed(content, x=np.arange(5))
    assert values(folder.read(content.getvalue(), "npz"), "x") == [0, 1, 2, 3, 4]


# -- what is refused


class Bomb:
    """Raises where it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


@pytest.mark.parametrize(
    ("arrays", "column", "reason"),
    [
        ({"x": np.array([Bomb()])}, "x", "Python objects in dtype"),
        ({"x": np.array([1, "a", None], dtype=object)}, "x", "Python objects in dtype"),
        ({"x": np.array(1.0)}, "x", "has no rows; the first dimension counts the rows"),
        ({"x": np.empty(0)}, "x", "has no rows"),
        ({"x": np.empty((0, 2))}, "x", "has no rows"),
        ({"x": np.empty((2, 0))}, "x", "has the empty shape [2, 0]"),
        ({"x": np.ones(2), "y": np.ones(3)}, "y", "has 3 rows, but 'x' has 2"),
        ({"x": np.array([1j])}, "x", "expected numbers, booleans or strings, got dtype complex"),
        ({"x": np.array([b"a"])}, "x", "expected numbers, booleans or strings, got dtype |S1"),
        ({"x": np.array(["2026-01-01"], dtype="M8[D]")}, "x", "got dtype datetime64[D]"),
        ({"x": np.zeros(2, dtype=[("a", "f8")])}, "x", "expected numbers, booleans or strings"),
        ({"x": np.array([["a", "b"]])}, "x", "a tensor holds numbers, got dtype <U1"),
        ({"x": np.array([[True, False]])}, "x", "a tensor holds numbers, got dtype bool"),
        ({" ": np.ones(2)}, None, "column 1 has no name; give each a name"),
        ({"x" * 201: np.ones(2)}, None, "column 1 has a name of 201 characters"),
        ({}, None, "holds no arrays; expected for instance X and y"),
    ],
)
def test_arrays_that_are_no_columns_are_refused(folder, arrays, column, reason):
    with pytest.raises(FormatError) as refusal:
        folder.npz(**arrays)
    assert refusal.value.column == column
    assert reason in refusal.value.reason


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="here it is a double")
def test_numbers_of_more_than_double_precision_are_refused(folder):
    with pytest.raises(FormatError, match="got dtype float128"):
        folder.npz(x=np.ones(2, dtype=np.longdouble))


GOOD = npy(np.ones(4))
HUGE_HEADER = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x,y\n1,2\n",
        npy(np.ones(2)),
        archive(x=GOOD)[:-1],
        archive(x=GOOD)[:40],
        archive(x=b""),
        archive(x=b"text"),
        archive(x=GOOD[:-1]),
        archive(x=GOOD + bytes(8)),
        archive(x=npy(header="{'descr': '<f8'")),
        archive(x=npy(header="not a dict")),
        archive(x=npy(header=HUGE_HEADER)),
        archive(x=npy(header=HUGE_HEADER.replace("1000000000000000", "-1"))),
        archive(x=npy(header=HUGE_HEADER.replace("<f8", "|O"))),
        archive(x=npy(np.array(["a", "b"]))[:-4] + b"\xff\xff\xff\xff"),
    ],
    ids=lambda content: f"{len(content)} bytes",  # not the bytes: an archive knows when it was made
)
def test_a_file_that_is_no_whole_npz_is_refused(folder, content):
    with pytest.raises(FormatError):
        folder.read(content, "npz")


def damaged(content, offset_in_directory, value):
    """Change a byte of the central directory, and its twin in the member's own header."""
    content = bytearray(content)
    start = content.index(b"PK\x01\x02")
    content[start + offset_in_directory] = value
    content[offset_in_directory - 2] = value
    return bytes(content)


@pytest.mark.parametrize(("offset", "value"), [(8, 1), (10, 99)], ids=["encrypted", "unknown"])
def test_members_packed_in_other_ways_are_refused(folder, offset, value):
    with pytest.raises(FormatError, match="cannot be read as arrays"):
        folder.read(damaged(archive(x=GOOD), offset, value), "npz")


def test_a_deflated_member_that_was_damaged_is_refused(folder):
    content = bytearray(archive(zipfile.ZIP_DEFLATED, x=GOOD))
    begin = content.index(b"x.npy") + len(b"x.npy")
    content[begin : begin + 20] = b"\xff" * 20
    with pytest.raises(FormatError, match="cannot be read as arrays"):
        folder.read(bytes(content), "npz")


def test_an_archive_that_would_unpack_to_too_much_is_refused_unread(folder):
    content = io.BytesIO()
    np.savez_compressed(content, x=np.zeros(10**6), y=np.zeros(10**6))
    assert len(content.getvalue()) < 20_000
    with pytest.raises(FormatError, match="the file unpacks to more than the 1,000,000 bytes"):
        folder.read(content.getvalue(), "npz", Limits(unpacked_bytes=10**6))
    size = sum(member.file_size for member in zipfile.ZipFile(content).infolist())
    with pytest.raises(FormatError, match="unpacks to"):
        folder.read(content.getvalue(), "npz", Limits(unpacked_bytes=size - 1))
    assert folder.read(content.getvalue(), "npz", Limits(unpacked_bytes=size)).rows == 10**6


def test_an_archive_that_lies_about_its_size_is_refused(folder):
    content = bytearray(archive(zipfile.ZIP_DEFLATED, x=npy(np.zeros(10**6))))
    start = content.index(b"PK\x01\x02")
    content[start + 24 : start + 28] = (1000).to_bytes(4, "little")
    with pytest.raises(FormatError, match="cannot be read as arrays"):
        folder.read(bytes(content), "npz")


def test_an_archive_of_very_many_members_is_refused_unread(folder, monkeypatch):
    content = archive(zipfile.ZIP_DEFLATED, x=npy(np.zeros(3)))
    listed = len(content) - content.index(b"PK\x01\x02") - 22
    monkeypatch.setattr(module, "DIRECTORY_LIMIT_BYTES", listed)
    assert folder.read(content, "npz").rows == 3
    monkeypatch.setattr(module, "DIRECTORY_LIMIT_BYTES", listed - 1)
    assert f"lists its members in {listed} bytes" in str(folder.refusal(content, "npz"))
    for hidden in (content + b"x", content[:-22] + b"PK\x06\x07" + bytes(16) + content[-22:]):
        assert "not an NPZ file" in str(folder.refusal(hidden, "npz"))


def test_arrays_are_read_in_pieces(folder, monkeypatch):
    monkeypatch.setattr(module, "PIECE_CELLS", 64)
    arrays = {"X": np.arange(600.0).reshape(100, 2, 3), "y": np.array(["a", "b"] * 50)}
    result = folder.ingest(npz(**arrays), "npz")
    assert (result.rows, result.columns[0].mean) == (100, 299.5)
    table = read_table(folder.kept)
    np.testing.assert_array_equal(table.column("X").values, arrays["X"])
    assert values(table, "y") == arrays["y"].tolist()
