"""Files to be read, and a folder where they are read and kept."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from engine.data.formats.ingestion import ingest
from engine.data.formats.kinds import Limits, Options
from engine.data.formats.stored import read_table
from engine.errors import FormatError


class Folder:
    """A folder where files are read and kept."""

    def __init__(self, path):
        self.path = path
        self.source, self.kept = path / "uploaded", path / "kept.arrow"

    def ingest(self, content, file_format="csv", limits=None, **options):
        """Read a file; return what was made of it."""
        self.source.write_bytes(content.encode() if isinstance(content, str) else content)
        return ingest(self.source, file_format, self.kept, limits or Limits(), Options(**options))

    def read(self, content, file_format="csv", limits=None, **options):
        """Read a file; return what was kept."""
        self.ingest(content, file_format, limits, **options)
        return read_table(self.kept)

    def npz(self, limits=None, **arrays):
        """Read an NPZ file of arrays; return what was kept."""
        return self.read(npz(**arrays), "npz", limits)

    def column(self, *cells, **options):
        """Read a CSV file of one column; return its profile."""
        [column] = self.ingest("\n".join(["x", *cells, ""]), delimiter=",", **options).columns
        return column

    def refusal(self, content, file_format="csv", limits=None, **options):
        """Return why a file is refused; nothing is left of it."""
        with pytest.raises(FormatError) as refusal:
            self.ingest(content, file_format, limits, **options)
        assert sorted(self.path.iterdir()) in ([self.source], [self.kept, self.source])
        return refusal.value


def npz(**arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def archive(compression=zipfile.ZIP_STORED, **members):
    """An NPZ file of members that may not be arrays."""
    return zipped({f"{name}.npy": data for name, data in members.items()}, compression)


def zipped(members, compression=zipfile.ZIP_STORED):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as opened:
        for name, data in members.items():
            opened.writestr(name, data)
    return content.getvalue()


def npy(array=None, header=None):
    """The bytes of one array, or of one that lies about itself."""
    if header is not None:
        text = header.encode()
        return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(8)
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def types(table):
    return {column.name: column.type for column in table.columns}


def values(table, name):
    column = table.column(name)
    if column.type == "category":
        return [None if code < 0 else column.levels[code] for code in column.values]
    return column.values.tolist()


def assert_same_tables(a, b):
    assert types(a) == types(b)
    for ours, theirs in zip(a.columns, b.columns, strict=True):
        assert ours.levels == theirs.levels
        np.testing.assert_array_equal(ours.values, theirs.values)
