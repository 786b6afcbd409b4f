"""Files that hurt those who read them: bombs, lies and scraps of every format."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def lines(*rows: str) -> bytes:
    return "\n".join([*rows, ""]).encode()


def gzip_bomb(size: int) -> bytes:
    """Pack so many bytes of a table of one column."""
    return gzip.compress(b"a\n" + b"1\n" * (size // 2), 1)


def npy(descr: str, shape: str, data: bytes = b"", *, fortran: object = False) -> bytes:
    """Write an array whose header says what it likes."""
    header = f"{{'descr': {descr}, 'fortran_order': {fortran!r}, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def npz(**arrays: Any) -> bytes:
    """Write arrays as NumPy does."""
    packed = io.BytesIO()
    np.savez_compressed(packed, allow_pickle=True, **arrays)
    return packed.getvalue()


def archive(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    """Write an archive of any members."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members:
            file.writestr(name, data)
    return packed.getvalue()


def array_of(data: bytes) -> bytes:
    """Write an archive of one array, as it is."""
    return archive(("a.npy", data))


def encrypted(data: bytes) -> bytes:
    """Say of every member of an archive that it is encrypted."""
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(mark)
        while at >= 0:
            data = data[: at + place] + b"\x01\x00" + data[at + place + 2 :]
            at = data.find(mark, at + 4)
    return data


def symlink(name: str = "a.npy") -> bytes:
    """Write an archive whose only member points to another file."""
    member = zipfile.ZipInfo(name)
    member.create_system, member.external_attr = 3, 0o120777 << 16
    return archive((member, b"/etc/passwd"))


def deep(size: int, name: str, begin: bytes = b"", said: int | None = None) -> bytes:
    """Write an archive of one member: what it begins with, and then so many zeros.

    Parameters
    ----------
    size : int
        In steps of 16 MiB.
    name : str
    begin : bytes
    said : int, optional
        How large the member is as the archive says, unless that is so.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(begin) + packer.flush(zlib.Z_FULL_FLUSH)
    step = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = first + step * (size >> 24) + packer.flush()
    file = archive((name, b""))
    sizes = struct.pack("<LL", len(packed), len(begin) + size if said is None else said)
    local = 30 + len(name)
    directory = file.index(b"PK\x01\x02")
    listed, end = file[directory : file.index(b"PK\x05\x06")], file[file.index(b"PK\x05\x06") :]
    listed = listed[:20] + sizes + listed[28:]
    place = struct.pack("<L", local + len(packed))
    return file[:18] + sizes + file[26:local] + packed + listed + end[:16] + place + end[20:]


def image(width: int = 1, height: int = 1) -> bytes:
    """Write a PNG file that says that it has so many pixels."""
    header = b"IHDR" + struct.pack(">LLBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(b"\0\0"), b"IEND"]
    written = [
        struct.pack(">L", len(each) - 4) + each + struct.pack(">L", zlib.crc32(each))
        for each in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def zstd_bomb(size: int) -> bytes:
    """Pack so many bytes of a table of one column."""
    return bytes(pa.compress(b"a\n" + b"1\n" * (size // 2), "zstd", asbytes=True))


def parquet(**columns: Any) -> bytes:
    """Write columns as Parquet, each value as it is."""
    packed = io.BytesIO()
    pq.write_table(pa.table(columns), packed, compression="zstd", use_dictionary=False)
    return packed.getvalue()


def twice() -> bytes:
    """Write a Parquet file with two columns of one name."""
    packed = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]), packed)
    return packed.getvalue()


def arrow(**columns: Any) -> bytes:
    """Write columns as an Arrow file that is packed."""
    packed, table = io.BytesIO(), pa.table(columns)
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(packed, table.schema, options=options) as writer:
        writer.write_table(table)
    return packed.getvalue()


def damaged(data: bytes, at: int) -> bytes:
    """Change a byte."""
    changed = bytearray(data)
    changed[at] ^= 0xFF
    return bytes(changed)


def crowded(members: int, overlapping: bytes = b"") -> bytes:
    """Write an archive that lists one member many times: all of them are the same bytes."""
    packed = zlib.compress(overlapping, 9, -15)
    sizes = struct.pack("<LLL", zlib.crc32(overlapping), len(packed), len(overlapping))
    local = b"PK\x03\x04" + struct.pack("<HHHHH", 20, 0, 8, 0, 0x21) + sizes
    local += struct.pack("<HH", 5, 0) + b"a.npy" + packed
    listed = []
    for number in range(members):
        name = b"%x.npy" % number
        entry = b"PK\x01\x02" + struct.pack("<HHHHHH", 20, 20, 0, 8, 0, 0x21) + sizes
        entry += struct.pack("<HHHHHLL", len(name), 0, 0, 0, 0, 0, 0) + name
        listed.append(entry)
    directory = b"".join(listed)
    count = min(members, 0xFFFF)
    end = struct.pack("<4H2LH", 0, 0, count, count, len(directory), len(local), 0)
    return local + directory + b"PK\x05\x06" + end


def form(*parts: bytes, end: bytes = b"--b--\r\n") -> bytes:
    """Write a form of parts, each with its headers."""
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + end


def part(name: str, data: bytes = b"x", filename: str | None = None) -> bytes:
    """Write a part of a form."""
    said = f'Content-Disposition: form-data; name="{name}"'
    said += f'; filename="{filename}"' if filename is not None else ""
    return said.encode() + b"\r\n\r\n" + data
