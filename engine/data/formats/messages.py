"""What the messages of an Arrow file say that they unpack to, before anything is unpacked.

Arrow has no call for it: a compressed buffer begins with its length once
unpacked, and where the buffers lie is in the message's flatbuffer
(https://arrow.apache.org/docs/format/Columnar.html, "Serialization and
Interprocess Communication").
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pyarrow as pa

HEADER, DATA, BUFFERS, COMPRESSION = 2, 1, 2, 3
"""Fields of the tables Message, DictionaryBatch and, twice, RecordBatch."""


def unpacked_sizes(source: pa.NativeFile) -> Iterator[int]:
    """Yield the bytes that each message of a stream takes once it is unpacked."""
    for message in pa.ipc.MessageReader.open_stream(source):
        if message.type in ("record batch", "dictionary"):
            yield _unpacked_size(message)


def _unpacked_size(message: pa.ipc.Message) -> int:
    told, body = memoryview(message.metadata), memoryview(message.body)
    header = _followed(told, _field(told, _followed(told, 0), HEADER))
    if message.type == "dictionary":
        header = _followed(told, _field(told, header, DATA))
    if not _field(told, header, COMPRESSION):
        return len(body)
    vector = _followed(told, _field(told, header, BUFFERS))
    [count] = struct.unpack_from("<I", told, vector)
    size = 0
    for offset, length in struct.iter_unpack("<qq", told[vector + 4 : vector + 4 + 16 * count]):
        if length:
            [unpacked] = struct.unpack_from("<q", body, offset)
            size += length if unpacked < 0 else unpacked  # -1: it is not compressed
    return size


def _followed(told: memoryview, position: int) -> int:
    """Return where the offset at ``position`` leads to."""
    return position + int(struct.unpack_from("<I", told, position)[0])


def _field(told: memoryview, table: int, number: int) -> int:
    """Return where a field of a table is; 0 where it has none."""
    fields = table - struct.unpack_from("<i", told, table)[0]
    [size] = struct.unpack_from("<H", told, fields)
    place = 4 + 2 * number
    offset = struct.unpack_from("<H", told, fields + place)[0] if place < size else 0
    return int(table + offset) if offset else 0
