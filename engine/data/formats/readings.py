"""Readings: what strings may be taken for, each with what reads them so."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.data.formats.kinds import Decimal
from engine.data.table import FALSE, TRUE, ColumnType

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
    no_day : callable or None
        Of dates: which strings are written like one, but name a day that no calendar has.
    """

    kinds: tuple[Kind, ...]
    may_begin: re.Pattern[str]
    no_day: Read | None = None

    def reading(self, values: pa.Array) -> Family | None:
        """Return the family from the first kind on that reads all ``values``."""
        for position, kind in enumerate(self.kinds):
            if _reads(kind, values):
                return replace(self, kinds=self.kinds[position:]) if position else self
        return None

    @property
    def words(self) -> str:
        """What the values are, in the plural."""
        return self.kinds[-1].words


def _reads(kind: Kind, values: pa.Array) -> bool:
    try:
        kind.read(values)
    except pa.ArrowInvalid:
        return False
    return True


def first_bad(kind: Kind, values: pa.Array) -> int:
    """Return the first row that a kind cannot read, or how many rows there are."""
    good, bad = 0, len(values) + 1
    while bad - good > 1:
        middle = (good + bad) // 2
        if _reads(kind, values.slice(good, middle - good)):
            good = middle
        else:
            bad = middle
    return good


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


PLAIN = Kind("numbers", "number", _number)

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
NOTHING = Family((PLAIN,), re.compile(""))

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
    first, second = ("day", "month") if order == _DAY_FIRST else ("month", "day")
    written = rf"(?P<{first}>\d{{1,2}})[{mark}](?P<{second}>\d{{1,2}})[{mark}](?P<year>\d{{4}})"
    return Family((Kind(words, "timestamp", _dates(mark, order)),), begin, _no_day(written))


def _no_day(written: str) -> Read:
    """Return what finds the dates, so written, of days that are not in their month."""
    pattern = rf"^{written}(?:[ T]+\d{{1,2}}:.*)?$"

    def find(values: pa.Array) -> pa.Array:
        parts = pc.extract_regex(values, pattern)
        year, month, day = (
            pc.cast(pc.struct_field(parts, part), pa.int64()).fill_null(1).to_numpy()
            for part in ("year", "month", "day")
        )
        first = (12 * (year - 1970) + month - 1).astype("datetime64[M]")
        days = (first + 1).astype("datetime64[D]") - first.astype("datetime64[D]")
        return pa.array((month < 1) | (month > 12) | (day < 1) | (day > days.astype(np.int64)))

    return find


_YEAR_FIRST = r"(?P<year>\d{4})[-/](?P<month>\d{1,2})[-/](?P<day>\d{1,2})"
"""Not with points between: versions are written so."""

_ISO = re.compile(r"^\s*\d{4}[-/.]\d{1,2}")
_TIMES = [
    Family(
        (
            Kind("dates (year-month-day)", "timestamp", _iso),
            Kind("dates (year-month-day)", "timestamp", _iso_loose),
        ),
        _ISO,
        _no_day(_YEAR_FIRST),
    ),
    Family(
        (Kind("times with a zone", "timestamp", _zoned),),
        re.compile(r"^\s*\d{4}-.*[Z+-]"),
        _no_day(_YEAR_FIRST),
    ),
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


def families(decimal: Decimal, day_first: bool | None, wanted: ColumnType | None) -> list[Family]:
    """Return what strings may be, the likelier first.

    Parameters
    ----------
    decimal : str
        What stands before the fraction of a number.
    day_first : bool or None
        Whether 1/2/2026 is in February.
    wanted : ColumnType or None
        What the caller says that they are.
    """
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
