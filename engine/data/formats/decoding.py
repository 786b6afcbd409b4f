"""Decoding: what a text file is written in, and its text in UTF-8 with plain newlines."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from pathlib import Path

from engine.data.formats.kinds import PIECE_BYTES, Encoding
from engine.errors import FormatError

SAMPLE_BYTES = 1 << 18
"""How much is looked at for the zeros of UTF-16."""

NEWLINE = b"\n"

BOMS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def encoding_of(path: Path, said: Encoding | None = None) -> str:
    """Return what the file is written in, going by its first letter beyond ASCII.

    Text that is not UTF-8 there is taken for Windows-1252, of which Latin-1 is a part.
    """
    if said is not None and said != "utf-16":
        return said
    with path.open("rb") as file:
        piece = file.read(PIECE_BYTES)
        for mark, encoding in BOMS:
            if piece.startswith(mark):
                return encoding
        even, odd = (piece[start:SAMPLE_BYTES:2].count(0) for start in (0, 1))
        if 8 * max(even, odd) > len(piece[:SAMPLE_BYTES]) and 4 * min(even, odd) < max(even, odd):
            return "utf-16-be" if even > odd else "utf-16-le"
        if said is not None:
            return "utf-16-le"
        while piece and piece.isascii():
            piece = file.read(PIECE_BYTES)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(piece)
    except UnicodeDecodeError as error:
        return "cp1252" if piece[: error.start].isascii() else "utf-8"
    return "utf-8"


def text_of(path: Path, encoding: str) -> Iterator[bytes]:
    """Yield a file in UTF-8 and with plain newlines, whatever it is written in."""
    ends = io.IncrementalNewlineDecoder(None, translate=True)
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    with path.open("rb") as file:
        for mark, _ in BOMS:
            if file.read(len(mark)) == mark:
                break
            file.seek(0)
        while piece := file.read(PIECE_BYTES):
            text = ends.decode(_decoded(decoder, piece, line)).encode()
            _check_characters(text, line)
            line += text.count(NEWLINE)
            yield text
        rest = ends.decode(_decoded(decoder, b"", line, final=True), final=True)
        yield rest.encode()


def _decoded(
    decoder: codecs.IncrementalDecoder, piece: bytes, line: int, *, final: bool = False
) -> str:
    try:
        return decoder.decode(piece, final)
    except UnicodeDecodeError as error:
        at = line + error.object[: error.start].count(NEWLINE)
        known = "UTF-8, UTF-16 or Windows-1252"
        reason = f"holds bytes that are not text in {known}; save the file as UTF-8"
        raise FormatError(at, None, reason) from error


_CONTROLS = bytes({*range(0x20)} - set(b"\t\n\v\f\r"))
_CONTROL = re.compile(b"[" + re.escape(_CONTROLS) + b"]")


def _check_characters(text: bytes, line: int) -> None:
    if len(text.translate(None, _CONTROLS)) == len(text):
        return
    found = next(_CONTROL.finditer(text))
    at = line + text.count(NEWLINE, 0, found.start())
    reason = f"holds the control character {ord(found[0]):#04x}, which is in no text"
    raise FormatError(at, None, f"{reason}; remove it, or send `format` if it is another")
