"""Choices: what happens to each column, where a spec leaves it open.

They are made from a column's profile and written into the spec, so that it
trains the same when it is sent again.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable

from engine import spec
from engine.data.categories import most_codes, one_hot_width
from engine.data.profiling import ColumnProfile
from engine.data.table import ColumnType
from engine.data.timestamps import PARTS
from engine.errors import SpecError
from engine.spec import ColumnKind, ColumnSpec

FEW_LEVELS = 9
"""A category of more levels is embedded, unless the network is given (Holzmüller et al. 2024)."""

ID_ROWS = 20
"""In fewer rows values may well all differ by chance."""

ID_SHARE = 0.9
"""Of the values of a text that all differ, almost."""

ID_LENGTH = 100
"""What is longer is no id, but something to read."""

ID_NAME = re.compile(
    r"(?i:(^|[\W_])(id|uuid|guid|key|index|row|rowid|rownum|no|nr)$|^unnamed: 0$)|[a-z]I[Dd]$"
)

KINDS: dict[ColumnType, tuple[ColumnKind, ...]] = {
    "number": ("number", "category"),
    "integer": ("number", "category"),
    "boolean": ("boolean", "number", "category"),
    "category": ("category",),
    "text": ("category",),
    "timestamp": ("timestamp",),
    "tensor": ("tensor",),
}
"""What a column of each type can be taken for, first what it usually is."""

IMPUTES: dict[ColumnKind, tuple[str, ...]] = {
    "number": ("median", "mean", "a number", "none"),
    "boolean": ("median", "mean", "a number", "none"),
    "category": ("level", "none"),
    "timestamp": ("median", "mean", "none"),
    "tensor": ("none",),
}
SCALES: dict[ColumnKind, tuple[spec.Scale, ...]] = {
    "number": ("robust", "standard", "none"),
    "boolean": ("robust", "standard", "none"),
    "category": ("robust", "standard", "none"),
    "timestamp": ("robust", "standard", "none"),
    "tensor": ("standard", "none"),
}
ENCODES: dict[ColumnKind, tuple[spec.Encode, ...]] = {
    "number": ("drop",),
    "boolean": ("drop",),
    "category": ("one_hot", "embedding", "drop"),
    "timestamp": ("calendar", "cyclic", "linear", "drop"),
    "tensor": ("drop",),
}
"""What can be asked for each, first what it is unless asked; a number and a tensor have no code."""


def filled_in(asked: ColumnSpec, kind: ColumnType) -> ColumnSpec:
    """Return ``asked`` with nothing left open, as is usual for a column of that type."""
    taken = asked.type or KINDS[kind][0]
    encode = asked.encode or (ENCODES[taken][0] if len(ENCODES[taken]) > 1 else None)
    return asked.model_copy(
        update={
            "type": taken,
            "impute": IMPUTES[taken][0] if asked.impute is None else asked.impute,
            "scale": None if encode == "embedding" else asked.scale or SCALES[taken][0],
            "encode": encode,
        }
    )


def decide(
    column: ColumnProfile, asked: ColumnSpec, rows: int, *, embeds: bool | None
) -> ColumnSpec:
    """Return what happens to a feature.

    Parameters
    ----------
    column : ColumnProfile
    asked : ColumnSpec
    rows : int
        Of the dataset.
    embeds : bool or None
        Whether the network begins with an embedding; None if that is open as well.

    Raises
    ------
    SpecError
        What is asked for cannot be; the path points into `columns`.
    """
    _check(column, asked)
    choice = filled_in(asked, column.type)
    if choice.type == "category" and asked.encode is None:
        levels = column.distinct or 0
        many = embeds is None and levels > FEW_LEVELS and asked.scale is None
        if many or (embeds and levels > 2):
            choice = choice.model_copy(update={"encode": "embedding", "scale": None})
    _check_choice(column, asked, choice, embeds)
    return choice.model_copy(update={"note": asked.note or note_on(column, rows)})


def _check(column: ColumnProfile, asked: ColumnSpec) -> None:
    """Refuse what a column cannot be taken for, and what that kind cannot be asked for."""
    name, kinds = column.name, KINDS[column.type]
    if asked.type is not None and asked.type not in kinds:
        reason = f"column {name!r} is {column.type}; {_listed(kinds)} would do"
        raise SpecError(path_of(name, "type"), reason)
    kind = asked.type or kinds[0]
    impute = "a number" if isinstance(asked.impute, float | int) else asked.impute
    for field, wanted, fitting in (
        ("impute", impute, IMPUTES[kind]),
        ("scale", asked.scale, SCALES[kind]),
        ("encode", asked.encode, ENCODES[kind]),
    ):
        if wanted is not None and wanted not in fitting:
            reason = f"{wanted} is not for a {kind}; {_listed(fitting)} would do"
            raise SpecError(path_of(name, field), reason)


def _check_choice(
    column: ColumnProfile, asked: ColumnSpec, choice: ColumnSpec, embeds: bool | None
) -> None:
    """Refuse what does not fit the column's values, or the network."""
    name = column.name
    if choice.impute == "none" and column.missing and not column.shape:
        found = f"{column.missing} missing, the first in row {column.first_missing}"
        reason = f"column {name!r} has {found}; {IMPUTES[choice.type or 'number'][0]} would do"
        raise SpecError(path_of(name, "impute"), reason)
    if choice.encode == "embedding" and asked.scale is not None:
        raise SpecError(path_of(name, "scale"), "an embedding is not scaled; leave it out")
    if choice.encode == "embedding" and embeds is False:
        reason = "the network has no embedding layer; begin with one, or leave the network open"
        raise SpecError(path_of(name, "encode"), reason)


def id_note(column: ColumnProfile, rows: int) -> str | None:
    """Say why a column is taken for an id, which names a row and tells nothing of others."""
    distinct, present = column.distinct or 0, rows - column.missing
    if present < ID_ROWS:
        return None
    advice = "give it a `type` in `columns` to keep it"
    if column.type == "integer" and distinct == present and ID_NAME.search(column.name):
        return f"left out as an id: its name says so, and all values differ; {advice}"
    if column.type in ("category", "text") and distinct >= ID_SHARE * present:
        longest = max((len(str(value)) for value, _ in column.top or ()), default=0)
        if longest <= ID_LENGTH:
            return f"left out as an id: {distinct} of {present} values differ; {advice}"
    return None


def note_on(column: ColumnProfile, rows: int) -> str | None:
    """Say what is worth a word about a column that is a feature."""
    if column.shape:
        return None
    distinct, present = column.distinct or 0, rows - column.missing
    if distinct == 0:
        return "holds no value, which tells nothing"
    if distinct == 1 and not column.missing:
        return "holds one value, which tells nothing"
    first = column.min
    if column.type != "integer" or present < ID_ROWS or not isinstance(first, float):
        return None
    numbered = distinct == present and first in (0, 1) and column.max == first + present - 1
    return f"numbers the rows from {first:g} on; if that is all, drop it" if numbered else None


def check_text(path: str, column: ColumnProfile, rows: int) -> None:
    """Refuse a text whose values hardly come twice, so that they are no categories."""
    present = rows - column.missing
    if column.type == "text" and 2 * (column.distinct or 0) > present:
        found = f"is text, of which {column.distinct} of {present} values differ"
        entry = f'{{{json.dumps(column.name)}: {{"encode": "drop"}}}}'
        advice = f'leave it out by `columns`: {entry}, or give it the type "category" there'
        raise SpecError(path, f"column {column.name!r} {found}; {advice}")


def most_inputs(column: ColumnProfile, choice: ColumnSpec) -> tuple[int, int]:
    """Return how many numbers a column becomes at most, and how many codes if it becomes one.

    It becomes fewer where the training rows lack some of its levels, or have few of them.
    """
    gaps = column.missing > 0
    if choice.type == "category":
        encode = choice.encode or "one_hot"
        codes = most_codes(encode, column.distinct or 0, gaps=gaps)
        return (1, codes) if encode == "embedding" else (one_hot_width(codes), 0)
    if choice.type == "timestamp":
        return len(PARTS[choice.encode or "calendar"]) + gaps, 0
    if choice.type == "tensor":
        return math.prod(column.shape or ()), 0
    return 1 + gaps, 0


def path_of(name: str, field: str | None = None) -> str:
    """Return the pointer to a column of a spec, or to a field of it."""
    escaped = name.replace("~", "~0").replace("/", "~1")
    return f"/columns/{escaped}" + (f"/{field}" if field else "")


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)
