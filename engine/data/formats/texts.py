"""What strings are taken for: decided over the whole column, then converted piece by piece."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pyarrow as pa
import pyarrow.compute as pc

from engine.data.formats.kinds import Decimal, Options
from engine.data.table import ColumnType
from engine.errors import FormatError

CATEGORY_LEVELS = 1000
"""A string column with more distinct values is text."""

ALWAYS_CATEGORY_LEVELS = 20
"""One with so few is a category, however few rows there are."""

FORCED_LEVELS = 65_536
"""The most levels of a column that the caller calls a category."""

SHOWN_CHARACTERS = 40

TRUE = ("true", "yes", "y", "t")
FALSE = ("false", "no", "n", "f")

Read = Callable[[pa.Array], pa.Array]


@dataclass(frozen=True)
class Kind:
    """One thing that strings may be taken for.

    Parameters
    ----------
    words : str
        What the values are, in the plural.
    type : ColumnType
    read : callable
        Strings and nulls to values and nulls; raises `ArrowInvalid` where one is none.
    """

    words: str
    type: ColumnType
    read: Read


@dataclass(frozen=True)
class Family:
    """Kinds of which each takes all that the one before it takes.

    Parameters
    ----------
    kinds : tuple of Kind
    may_begin : Pattern
        What the first value looks like, at least.
    """

    kinds: tuple[Kind, ...]
    may_begin: re.Pattern[str]

    def reading(self, values: pa.Array) -> Family | None:
        """Return the family from the first kind on that reads all ``values``."""
        for position, kind in enumerate(self.kinds):
            if _reads(kind, values):
                return Family(self.kinds[position:], self.may_begin) if position else self
        return None


def _reading(families: list[Family], values: pa.Array) -> list[Family]:
    return [alive for family in families if (alive := family.reading(values)) is not None]


def _reads(kind: Kind, values: pa.Array) -> bool:
    try:
        kind.read(values)
    except pa.ArrowInvalid:
        return False
    return True


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
        self._families = _families(decimal, options.day_first, self._wanted)
        self._missing = pa.array(["", *options.missing])
        self._trims = False
        self._seen = 0
        self._distinct: set[str] | None = set()
        self._marks: Counter[str] = Counter()
        self._words: set[str] = set()

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
        alive = _reading(before, values)
        if not alive and not self._trims:
            self._trims = True
            values = self._present(strings)
            before = self._possible(values)
            alive = _reading(before, values)
        if before and not alive:
            self._fall(before, values, place)
        elif (
            alive and alive[0].kinds[0].words == DECORATED and before[0].kinds[0].words != DECORATED
        ):
            self._explain_number(alive[0].kinds[0], values)
        self._families = alive
        self._seen += len(values) - values.null_count

    def _possible(self, values: pa.Array) -> list[Family]:
        """Return the families that are left, going by the very first value."""
        if self._seen or self._wanted or values.null_count == len(values):
            return self._families
        first = values[pc.index(values.is_valid(), True).as_py()].as_py()
        return [family for family in self._families if family.may_begin.search(first)]

    def _fall(self, before: list[Family], values: pa.Array, place: Callable[[int], str]) -> None:
        """Say which value is not what the ones before it are."""
        family = max(before, key=lambda each: _first_bad(each.kinds[-1], values))
        kind, row = family.kinds[0], _first_bad(family.kinds[-1], values)
        shown = repr(values[row].as_py()[:SHOWN_CHARACTERS])
        if self._wanted is not None:
            reason = f"{place(row)} holds {shown}, but `types` says {self._wanted}"
            raise FormatError(None, self.name, reason)
        if self._seen + row - values.slice(0, row).null_count >= 2:
            self.notes.append(f"{kind.words} up to {place(row)}, where it holds {shown}")

    def _explain_number(self, kind: Kind, values: pa.Array) -> None:
        row = _first_bad(_PLAIN, values)
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
            self._families = self._families[:1] if self._wanted else [_NOTHING]
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
            if self.kind.type == "boolean" and len(self._words) < len(TRUE + FALSE):
                self._words.update(pc.unique(values).drop_null().to_pylist())
            return self.kind.read(values)
        if self.levels is None:
            return values
        return pa.DictionaryArray.from_arrays(pc.index_in(values, self.levels), self.levels)

    def told(self) -> list[str]:
        """Return all notes, once all is converted."""
        notes = list(self.notes)
        odd = {word for word in self._words if word.lower() not in ("true", "false")}
        if odd:
            words = " and ".join(repr(word) for word in sorted(self._words)[:4])
            notes.append(f"{words} are read as true and false")
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


def _first_bad(kind: Kind, values: pa.Array) -> int:
    """Return the first row that ``kind`` cannot read, or how many there are."""
    good, bad = 0, len(values) + 1
    while bad - good > 1:
        middle = (good + bad) // 2
        if _reads(kind, values.slice(good, middle - good)):
            good = middle
        else:
            bad = middle
    return good


def _ambiguous(kinds: list[Kind]) -> str:
    readings = " or ".join(kind.words for kind in kinds)
    return (
        f"{readings}: no value tells which; taken as {kinds[0].words}, `day_first` says otherwise"
    )


# -- numbers --------------------------------------------------------------------------------------

DECORATED = "numbers"


def _holds(values: pa.Array, letters: bytes) -> bool:
    """Whether any of the letters is in any of the strings; looks at what lies around them too."""
    data = values.buffers()[2]
    text = b"" if data is None else data.to_pybytes()
    return any(letters[i : i + 1] in text for i in range(len(letters)))


def _integer(values: pa.Array) -> pa.Array:
    if _holds(values, b"xX"):  # Arrow reads 0x10 as an integer, but not as a number
        values = pc.if_else(
            pc.match_substring(values, "x", ignore_case=True), "hexadecimal", values
        )
    return pc.cast(values, pa.int64())


def _number(values: pa.Array) -> pa.Array:
    return pc.cast(values, pa.float64())


def _comma_number(values: pa.Array) -> pa.Array:
    """Read decimal commas; a point would be a separator of thousands."""
    if _holds(values, b"."):
        values = pc.replace_substring(values, ".", "?")
    return _number(pc.replace_substring(values, ",", "."))


_UNIT = r"(?:[$€£¥₹]|USD|EUR|GBP|CHF|JPY)"
_SPACES = r" '’\x{a0}\x{202f}"


@cache
def _decorated(decimal: Decimal) -> Read:
    thousands = {".": ",", ",": "."}[decimal]
    gaps = f"[{thousands}{_SPACES}]"
    digits = rf"(?:\d{{1,3}}(?:{gaps}\d{{3}})+|\d+)(?:[{decimal}]\d*)?|[{decimal}]\d+"
    number = rf"[+-]?(?:{digits})(?:[eE][+-]?\d+)?"
    whole = rf"^[+-]?{_UNIT}?\s?{number}\s?(?:{_UNIT}|%)?$"
    ornament = rf"{_UNIT}|%|\s|{gaps}"
    plain = _number if decimal == "." else _comma_number

    def read(values: pa.Array) -> pa.Array:
        """Read numbers with a currency, a percent sign, or thousands apart."""
        ornate = pc.match_substring_regex(values, whole)
        bare = pc.replace_substring_regex(values, ornament, "")
        return plain(pc.if_else(ornate, bare, values))

    return read


_PLAIN = Kind("numbers", "number", _number)

_MAY_BE_NUMBER = re.compile(r"\d|[iI]nf")

# -- booleans and nothing -------------------------------------------------------------------------

_TRUE, _WORDS = pa.array(TRUE), pa.array(TRUE + FALSE)


def _boolean(values: pa.Array) -> pa.Array:
    lower = pc.utf8_lower(values)
    if pc.is_in(lower, value_set=_WORDS).true_count + values.null_count < len(values):
        raise pa.ArrowInvalid("another word")
    return pc.if_else(values.is_valid(), pc.is_in(lower, value_set=_TRUE), None)


_BOOLEAN = Family(
    (Kind("words for true and false", "boolean", _boolean),),
    re.compile(rf"^\s*({'|'.join(TRUE + FALSE)})\s*$", re.IGNORECASE),
)
_NOTHING = Family((_PLAIN,), re.compile(""))

# -- times ----------------------------------------------------------------------------------------

_TIME = r"(?:[ T]+(\d{1,2}:.*))?$"


def _iso(values: pa.Array) -> pa.Array:
    return pc.cast(values, pa.timestamp("us"))


def _iso_loose(values: pa.Array) -> pa.Array:
    """Read ISO 8601 with finer fractions, months alone, slashes, or digits left out."""
    values = pc.replace_substring_regex(values, r"(\.\d{6})\d+", r"\1")
    values = pc.replace_substring_regex(values, r"^(\d{4})[-/](\d{1,2})$", r"\1-\2-01")
    return _reordered(
        values, rf"^(\d{{4}})[-/.](\d{{1,2}})[-/.](\d{{1,2}}){_TIME}", r"\1-0\2-0\3 \4"
    )


def _zoned(values: pa.Array) -> pa.Array:
    values = pc.replace_substring_regex(values, r"(\.\d{6})\d+", r"\1")
    return pc.cast(values, pa.timestamp("us", "UTC")).cast(pa.timestamp("us"))


def _reordered(values: pa.Array, pattern: str, order: str) -> pa.Array:
    """Bring dates into the order of ISO 8601, and their parts to two digits."""
    values = pc.replace_substring_regex(values, pattern, order)
    values = pc.replace_substring_regex(values, r"-0(\d\d)", r"-\1")
    values = pc.replace_substring_regex(values, r" (\d):", r" 0\1:")
    return _iso(pc.utf8_rtrim_whitespace(values))


@cache
def _dates(mark: str, order: str) -> Read:
    pattern = rf"^(\d{{1,2}})[{mark}](\d{{1,2}})[{mark}](\d{{4}}){_TIME}"
    return lambda values: _reordered(values, pattern, rf"{order} \4")


_DAY_FIRST, _MONTH_FIRST = r"\3-0\2-0\1", r"\3-0\1-0\2"


def _date_family(words: str, mark: str, order: str) -> Family:
    begin = re.compile(rf"^\s*\d{{1,2}}[{mark}]\d{{1,2}}[{mark}]\d{{4}}")
    return Family((Kind(words, "timestamp", _dates(mark, order)),), begin)


_ISO = re.compile(r"^\s*\d{4}[-/.]\d{1,2}")
_TIMES = [
    Family(
        (
            Kind("dates (year-month-day)", "timestamp", _iso),
            Kind("dates (year-month-day)", "timestamp", _iso_loose),
        ),
        _ISO,
    ),
    Family((Kind("times with a zone", "timestamp", _zoned),), re.compile(r"^\s*\d{4}-.*[Z+-]")),
    _date_family("dates (day.month.year)", ".", _DAY_FIRST),
]
_DAYS = [_date_family(f"dates (day{m}month{m}year)", m, _DAY_FIRST) for m in "-/"]
_MONTHS = [_date_family(f"dates (month{m}day{m}year)", m, _MONTH_FIRST) for m in "-/"]


@cache
def _numbers(decimal: Decimal) -> Family:
    plain = _number if decimal == "." else _comma_number
    kinds = (
        Kind("whole numbers", "integer", _integer),
        Kind("plain numbers", "number", plain),
        Kind(DECORATED, "number", _decorated(decimal)),
    )
    return Family(kinds, _MAY_BE_NUMBER)


def _families(decimal: Decimal, day_first: bool | None, wanted: ColumnType | None) -> list[Family]:
    numbers = _numbers(decimal)
    orders = {None: [*_MONTHS, *_DAYS], True: _DAYS, False: _MONTHS}[day_first]
    of_type = {
        "number": [Family(numbers.kinds[1:], numbers.may_begin)],
        "integer": [Family(numbers.kinds[:1], numbers.may_begin)],
        "boolean": [_BOOLEAN],
        "timestamp": [*_TIMES, *orders],
        "category": [],
        "text": [],
    }
    if wanted is not None:
        return of_type[wanted]
    return [_BOOLEAN, numbers, *_TIMES, *orders]
