"""Names and numbers of columns: what a training spec could not name, or memory not hold."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence

from engine.errors import FormatError
from engine.spec import MAX_COLUMNS, MAX_NAME_LENGTH


def check_names(names: Sequence[str], line: int | None = None) -> None:
    """Refuse names that a training spec could not hold; ``line`` is where they stand."""
    if not names:
        raise FormatError(line, None, "the file holds no columns; expected at least one")
    check_width(len(names), line)
    for position, name in enumerate(names, start=1):
        if not name.strip():
            raise FormatError(line, None, f"column {position} has no name; give each a name")
        if len(name) > MAX_NAME_LENGTH:
            reason = f"has a name of {len(name)} characters; at most {MAX_NAME_LENGTH} are allowed"
            raise FormatError(line, None, f"column {position} {reason}")
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
            reason = "has a name with control characters; use printable ones"
            raise FormatError(line, None, f"column {position} {reason}")
        if not unicodedata.is_normalized("NFC", name):
            reason = "has a name that is not in Unicode's normal form; write it in NFC"
            raise FormatError(line, None, f"column {position} {reason}")
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise FormatError(line, name, f"appears {count} times; give each column its own name")


def check_width(columns: int, line: int | None = None, limit: int | None = None) -> None:
    """Refuse more columns than are allowed, or unless that is said, than a spec may name."""
    most = MAX_COLUMNS if limit is None else limit
    if columns > most:
        reason = f"{columns:,} columns; at most {most:,} are allowed"
        raise FormatError(line, None, reason)


def check_cells(cells: int, limit: int) -> None:
    """Refuse a table of too many cells."""
    if cells > limit:
        reason = f"holds more than the {limit:,} values allowed; leave out rows or columns"
        raise FormatError(None, None, reason)
