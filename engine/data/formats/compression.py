"""Compressed files: unpacked piece by piece, and refused where they are bombs."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from engine.data.formats.kinds import Compression, Limits
from engine.errors import FormatError

PIECE_BYTES = 1 << 20

HARMLESS_BYTES = 1 << 26
"""What unpacks to no more may be as small as it is."""


def decompress(source: Path, destination: Path, compression: Compression, limits: Limits) -> None:
    """Unpack a file, piece by piece.

    Raises
    ------
    FormatError
        The file is not what ``compression`` says, or unpacks to more than is allowed.
    """
    unpacked, size = 0, source.stat().st_size
    piece = bytearray(PIECE_BYTES)  # `read` would lose its own where what is read is damaged
    try:
        with (
            pa.OSFile(str(source)) as packed,
            pa.CompressedInputStream(packed, compression) as stream,
            destination.open("wb") as out,
        ):
            while length := stream.readinto(piece):
                unpacked += length
                check_expansion(unpacked, size, limits, f"the {compression} file")
                out.write(memoryview(piece)[:length])
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's own, such as a full disk; Arrow's have no number
        raise FormatError(None, None, f"not a whole {compression} file: {error}") from error


def check_expansion(unpacked: int, size: int, limits: Limits, what: str = "the file") -> None:
    """Refuse what unpacks to too much, or to too many times its size."""
    if unpacked > limits.unpacked_bytes:
        reason = f"unpacks to more than the {limits.unpacked_bytes:,} bytes allowed"
        raise FormatError(None, None, f"{what} {reason}")
    if unpacked > max(HARMLESS_BYTES, limits.expansion * size):
        reason = f"unpacks to more than {limits.expansion:g} times its {size:,} bytes"
        raise FormatError(None, None, f"{what} {reason}; send it less compressed")
