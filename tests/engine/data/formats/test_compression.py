"""Compressed files: unpacked whole, and no further than is allowed."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest

from engine.data.formats import compression as module
from engine.data.formats.compression import decompress
from engine.data.formats.kinds import Limits
from engine.errors import FormatError

TEXT = b"x,y\n" + b"1,2\n" * 100_000


def zstd(data):
    return pa.compress(data, codec="zstd", asbytes=True)


EVERY_COMPRESSION = pytest.mark.parametrize(
    ("compression", "pack"), [("gzip", gzip.compress), ("zstd", zstd)], ids=["gzip", "zstd"]
)


FULL = Path("/dev/full")


def unpack(folder, packed, compression, limit_bytes):
    folder.source.write_bytes(packed)
    decompress(folder.source, folder.kept, compression, Limits(unpacked_bytes=limit_bytes))
    return folder.kept.read_bytes()


@EVERY_COMPRESSION
def test_a_file_is_unpacked_up_to_the_limit(folder, compression, pack, monkeypatch):
    assert unpack(folder, pack(TEXT), compression, len(TEXT)) == TEXT
    assert unpack(folder, pack(b""), compression, 0) == b""
    monkeypatch.setattr(module, "PIECE_BYTES", 1000)
    assert unpack(folder, pack(TEXT), compression, len(TEXT)) == TEXT


@EVERY_COMPRESSION
def test_a_file_in_several_parts_is_unpacked_whole(folder, compression, pack):
    assert unpack(folder, pack(TEXT) + pack(b"3,4\n"), compression, 10**6) == TEXT + b"3,4\n"


@EVERY_COMPRESSION
@pytest.mark.parametrize("limit_bytes", [0, 1, 1000, len(TEXT) - 1])
def test_what_would_unpack_to_more_than_the_limit_is_refused(
    folder, compression, pack, limit_bytes
):
    with pytest.raises(FormatError, match=f"unpacks to more than the {limit_bytes:,} bytes"):
        unpack(folder, pack(TEXT), compression, limit_bytes)


@EVERY_COMPRESSION
def test_a_bomb_is_put_out_before_it_fills_the_disk(folder, compression, pack):
    packed = pack(bytes(30 * 2**20))
    assert len(packed) < 100_000
    with pytest.raises(FormatError, match="unpacks to more than the 1,000 bytes"):
        unpack(folder, packed, compression, 1000)
    assert folder.kept.stat().st_size <= 1000


@EVERY_COMPRESSION
@pytest.mark.skipif(not FULL.exists(), reason="this system has no full disk to write to")
def test_a_full_disk_is_not_the_fault_of_the_input(folder, compression, pack):
    folder.source.write_bytes(pack(bytes(2**20)))
    with pytest.raises(OSError, match="No space left"):
        decompress(folder.source, FULL, compression, Limits())


@EVERY_COMPRESSION
def test_memory_is_given_back_after_input_that_was_cut_off(folder, compression, pack):
    packed = pack(b"x,y\n1,2\n" * 1000)[:-9]
    tracemalloc.start()
    for _ in range(30):
        with pytest.raises(FormatError):
            unpack(folder, packed, compression, 10**6)
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept_bytes < module.PIECE_BYTES


@EVERY_COMPRESSION
def test_input_that_was_cut_off_is_refused_wherever(folder, compression, pack):
    packed = pack(b"x,y\n1,2\n")
    for size in range(1, len(packed)):
        with pytest.raises(FormatError, match=f"not a whole {compression} file"):
            unpack(folder, packed[:size], compression, 10**6)


@EVERY_COMPRESSION
def test_what_is_not_compressed_so_is_refused(folder, compression, pack):
    other = zstd if compression == "gzip" else gzip.compress
    for content in (b"x,y\n1,2\n", other(TEXT), pack(TEXT) + b"1,2\n"):
        with pytest.raises(FormatError, match=f"not a whole {compression} file"):
            unpack(folder, content, compression, 10**6)


@EVERY_COMPRESSION
def test_what_unpacks_to_very_many_times_its_size_is_refused(
    folder, compression, pack, monkeypatch
):
    monkeypatch.setattr(module, "HARMLESS_BYTES", 1000)
    folder.source.write_bytes(pack(bytes(10**6)))
    with pytest.raises(FormatError, match="unpacks to more than 5 times its"):
        decompress(folder.source, folder.kept, compression, Limits(expansion=5))
    decompress(folder.source, folder.kept, compression, Limits(expansion=10**5))
    monkeypatch.setattr(module, "HARMLESS_BYTES", 10**6)
    decompress(folder.source, folder.kept, compression, Limits(expansion=5))
