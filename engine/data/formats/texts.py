"""What strings are taken for: decided over the whole column, then converted piece by piece."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from engine.data.formats.kinds import Decimal, Options
from engine.data.formats.readings import (
    DECORATED,
    NOTHING,
    PLAIN,
    Family,
    Kind,
    families,
    first_bad,
)
from engine.data.table import FALSE, TRUE, truth
from engine.errors import FormatError

CATEGORY_LEVELS = 1000
"""A string column with more distinct values is text."""

ALWAYS_CATEGORY_LEVELS = 20
"""One with so few is a category, however few rows there are."""

FORCED_LEVELS = 65_536
"""The most levels of a column that the caller calls a category."""

SHOWN_CHARACTERS = 40


WRONG_SHARE = 0.1
"""Dates of which more name no day are something else that is written like dates."""

MIN_DATES = 3
"""Of so many, one may name no day and all be dates."""


@dataclass
class Doubt:
    """The values that are written like dates, but name no day.

    Parameters
    ----------
    first, place : str
        The first of them, and where it is.
    before : int
        How many values there were before it.
    count : int
    """

    first: str
    place: str
    before: int
    count: int = 0


class TextColumn:
    """A column of strings: looked at from end to end, then converted.

    Parameters
    ----------
    name : str
    options : Options
    decimal : str
        What stands before the fraction of a number.
    """

    def __init__(self, name: str, options: Options, decimal: Decimal) -> None:
        self.name = name
        self.notes: list[str] = []
        self.levels: pa.Array | None = None
        self._wanted = options.types.get(name)
        self._families = families(decimal, options.day_first, self._wanted)
        self._missing = pa.array(["", *options.missing])
        self._trims = False
        self._seen = 0
        self._distinct: set[str] | None = set()
        self._marks: Counter[str] = Counter()
        self._words: Counter[str] = Counter()
        self._doubts: dict[str, Doubt] = {}

    @property
    def is_open(self) -> bool:
        """Whether it may still be anything but strings."""
        return bool(self._families)

    @property
    def kind(self) -> Kind | None:
        """What its values are, once all were looked at; None for strings."""
        return self._families[0].kinds[0] if self._families else None

    def look(self, strings: pa.Array, place: Callable[[int], str]) -> None:
        """See what the values of the next piece may be."""
        values = self._present(strings)
        before = self._possible(values)
        alive = self._reading(before, values, place)
        if not alive and not self._trims:
            self._trims = True
            values = self._present(strings)
            before = self._possible(values)
            alive = self._reading(before, values, place)
        if before and not alive:
            self._fall(before, values, place)
        elif (
            alive and alive[0].kinds[0].words == DECORATED and before[0].kinds[0].words != DECORATED
        ):
            self._explain_number(alive[0].kinds[0], values)
        elif alive and alive[0].kinds[0].type == "boolean":
            counts = pc.value_counts(values.drop_null()).to_pylist()
            self._words.update({said["values"]: said["counts"] for said in counts})
        self._families = alive
        self._seen += len(values) - values.null_count

    def _reading(
        self, families: list[Family], values: pa.Array, place: Callable[[int], str]
    ) -> list[Family]:
        """Return the families that read all values; else dates that but for some do."""
        alive = []
        for family in families:
            read = family.reading(values)
            if read is None and family.no_day is not None and self._wanted is None:
                none = family.no_day(values)
                if none.true_count and (read := family.reading(pc.if_else(none, None, values))):
                    self._doubt(family, values, none, place)
            if read is not None:
                alive.append(read)
        sure = [family for family in alive if family.words not in self._doubts]
        return sure or alive

    def _doubt(
        self, family: Family, values: pa.Array, none: pa.Array, place: Callable[[int], str]
    ) -> None:
        row = pc.index(none, True).as_py()
        before = self._seen + row - values.slice(0, row).null_count
        first = Doubt(values[row].as_py()[:SHOWN_CHARACTERS], place(row), before)
        self._doubts.setdefault(family.words, first).count += none.true_count

    def check_dates(self) -> None:
        """Once all were looked at, refuse dates of which few name no day.

        If many do not, they are strings.
        """
        doubts = [self._doubts.get(family.words) for family in self._families]
        if not self._families or None in doubts:
            return
        family = min(self._families, key=lambda each: self._doubts[each.words].count)
        doubt = self._doubts[family.words]
        most = WRONG_SHARE * self._seen
        if doubt.count <= most or (doubt.count == 1 and self._seen >= MIN_DATES):
            found = f"{doubt.place} holds {doubt.first!r}, but no calendar has such a day"
            others = f" ({doubt.count:,} of {self._seen:,} values)" if doubt.count > 1 else ""
            advice = "mend it, name it in `missing`, or let `types` say category or text"
            reason = f"{found}{others}; the others are {family.words}; {advice}"
            raise FormatError(None, self.name, reason)
        self._note_end(family, doubt.first, doubt.place, doubt.before)
        self._families = []

    def _note_end(self, family: Family, shown: str, place: str, before: int) -> None:
        if before >= 2:
            words = family.kinds[0].words
            self.notes.append(f"{words} up to {place}, where it holds {shown!r}")

    def _possible(self, values: pa.Array) -> list[Family]:
        """Return the families that are left, going by the very first value."""
        if self._seen or self._wanted or values.null_count == len(values):
            return self._families
        first = values[pc.index(values.is_valid(), True).as_py()].as_py()
        return [family for family in self._families if family.may_begin.search(first)]

    def _fall(self, before: list[Family], values: pa.Array, place: Callable[[int], str]) -> None:
        """Say which value is not what the ones before it are."""
        family = max(before, key=lambda each: first_bad(each.kinds[-1], values))
        row = first_bad(family.kinds[-1], values)
        shown = values[row].as_py()[:SHOWN_CHARACTERS]
        if self._wanted is not None:
            reason = f"{place(row)} holds {shown!r}, but `types` says {self._wanted}"
            raise FormatError(None, self.name, reason)
        before_it = self._seen + row - values.slice(0, row).null_count
        self._note_end(family, shown, place(row), before_it)

    def _explain_number(self, kind: Kind, values: pa.Array) -> None:
        row = first_bad(PLAIN, values)
        if row < len(values):
            number = kind.read(values.slice(row, 1))[0].as_py()
            self.notes.append(f"{values[row].as_py()!r} is read as {number:g}")

    def count(self, strings: pa.Array) -> None:
        """Collect the distinct values of a column of strings, as long as they are few."""
        if self._distinct is None or self._wanted == "text":
            self._distinct = None
            return
        self._distinct.update(pc.unique(self._present(strings)).drop_null().to_pylist())
        most = FORCED_LEVELS if self._wanted == "category" else CATEGORY_LEVELS
        if len(self._distinct) > most:
            self._distinct = None
            if self._wanted == "category":
                reason = f"more than {most:,} levels; `types` may say text"
                raise FormatError(None, self.name, reason)

    def settle(self, rows: int) -> None:
        """Decide, once all was seen: which of two readings, category or text."""
        if not self._seen and self._families:
            self._families = self._families[:1] if self._wanted else [NOTHING]
            self.notes.append("holds no value at all")
        if len(self._families) > 1:
            self.notes.append(_ambiguous([family.kinds[0] for family in self._families]))
        if self._families:
            return
        levels = self._distinct
        if levels is not None and (
            self._wanted == "category"
            or len(levels) <= ALWAYS_CATEGORY_LEVELS
            or 2 * len(levels) <= rows
        ):
            self.levels = pa.array(sorted(levels), pa.string())
        taken = "text" if self.levels is None else "category"
        self.notes = [f"{note}; taken as {taken}" for note in self.notes]

    def convert(self, strings: pa.Array) -> pa.Array:
        """Return the values of a piece, as they are kept."""
        values = self._present(strings, count=True)
        if self.kind is not None:
            return self.kind.read(values)
        if self.levels is None:
            return values
        return pa.DictionaryArray.from_arrays(pc.index_in(values, self.levels), self.levels)

    @property
    def words(self) -> tuple[str, str] | None:
        """What booleans in words call false and true, most often; None if they call it so."""
        if self.kind is None or self.kind.type != "boolean":
            return None
        used = {truth(word): word for word, _ in reversed(self._words.most_common())}
        if not {word.lower() for word in used.values()} - {TRUE[0], FALSE[0]}:
            return None
        return used.get(False) or _opposite(used[True]), used.get(True) or _opposite(used[False])

    def told(self) -> list[str]:
        """Return all notes, once all is converted."""
        notes = list(self.notes)
        if self.words is not None:
            for value, name in ((True, "true"), (False, "false")):
                used = sorted(word for word in self._words if truth(word) is value)
                if used:
                    verb = "are" if len(used) > 1 else "is"
                    notes.append(f"{' and '.join(map(repr, used[:4]))} {verb} read as {name}")
        marks = [(mark, self._marks[mark]) for mark in ("?", "-") if self._marks[mark]]
        return notes + [f"{mark!r} counts as missing, {count:,} times" for mark, count in marks]

    def _present(self, strings: pa.Array, *, count: bool = False) -> pa.Array:
        """Return the strings, null where they say that there is nothing."""
        if self._trims:
            strings = pc.utf8_trim_whitespace(strings)
        missing = pc.is_in(strings, value_set=self._missing)
        if not missing.true_count:
            return strings
        if count:
            for said in pc.value_counts(strings.filter(missing)).to_pylist():
                self._marks[said["values"]] += said["counts"]
        return pc.if_else(missing, None, strings)


def _opposite(word: str) -> str:
    """Return the word for the other boolean, in the same case."""
    lower = word.lower()
    other = FALSE[TRUE.index(lower)] if lower in TRUE else TRUE[FALSE.index(lower)]
    if word == lower:
        return other
    return other.upper() if word.isupper() and len(word) > 1 else other.capitalize()


def _ambiguous(kinds: list[Kind]) -> str:
    readings = " or ".join(kind.words for kind in kinds)
    return (
        f"{readings}: no value tells which; taken as {kinds[0].words}, `day_first` says otherwise"
    )
