"""Every refusal the engine can raise.

::

    EngineError
    ├── SpecError(path, reason)             the network or training spec is not valid
    │   └── TiesError(…, column, within, count)     rows of one series are in one place
    ├── DataError(reason)                   the data cannot be trained on or predicted from
    │   ├── FormatError(line, column, reason)       a file cannot be read as a table
    │   └── SchemaError(column, expected, got)      a column is absent or of another type
    ├── DivergedError(epoch, step)          the loss stopped being a finite number
    ├── NoRoomError(needed_bytes, free_bytes)       a disk has too little room
    ├── UnsettledError(epoch, share)        too few examples settle in a layer that relaxes
    └── CheckpointError(version, reason)    bytes that this engine cannot load
"""

from __future__ import annotations


class EngineError(Exception):
    """The engine refused."""


class SpecError(EngineError):
    """The network or training spec is not valid.

    Parameters
    ----------
    path : str
        Where in the spec, as an RFC 6901 pointer such as ``/network/layers/0/units``.
    reason : str
        What is wrong there, and what would do.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


class TiesError(SpecError):
    """Rows of the one series are in one place, by the profile; the rows themselves tell which.

    Parameters
    ----------
    path, reason : str
        As of `SpecError`.
    column : str
        The order.
    within : int
        Among how many first rows two are in one place.
    count : int
        How many rows of all are in the place of one before them.
    """

    def __init__(self, path: str, reason: str, column: str, within: int, count: int) -> None:
        super().__init__(path, reason)
        self.column, self.within, self.count = column, within, count


class DataError(EngineError):
    """The data cannot be used."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class FormatError(DataError):
    """The file cannot be read as a table.

    Parameters
    ----------
    line : int or None
        1-based line of the file, where the format has lines.
    column : str or None
        The column, where one column is at fault.
    reason : str
        What is wrong there, and what would do.
    """

    def __init__(self, line: int | None, column: str | None, reason: str) -> None:
        where = [f"line {line}"] if line is not None else []
        where += [f"column {column!r}"] if column is not None else []
        super().__init__(f"{', '.join(where)}: {reason}" if where else reason)
        self.line, self.column, self.reason = line, column, reason


class SchemaError(DataError):
    """A column is absent or holds another type than is needed.

    Parameters
    ----------
    column : str
    expected, got : str
        In words, to be read after "expected" and "got".
    row : int or None
        0-based row, where one row is at fault.
    """

    def __init__(self, column: str, expected: str, got: str, row: int | None = None) -> None:
        where = f"column {column!r}" if row is None else f"row {row}, column {column!r}"
        super().__init__(f"{where}: expected {expected}, got {got}")
        self.column, self.expected, self.got, self.row = column, expected, got, row


class DivergedError(EngineError):
    """Training diverged: the loss is no longer a finite number."""

    def __init__(self, epoch: int, step: int) -> None:
        super().__init__(f"the loss stopped being a finite number in epoch {epoch}, at step {step}")
        self.epoch, self.step = epoch, step


class NoRoomError(EngineError):
    """The disk has too little room for the rows."""

    def __init__(self, needed_bytes: int, free_bytes: int) -> None:
        super().__init__(f"the rows take {needed_bytes:,} bytes of disk, {free_bytes:,} are free")
        self.needed_bytes, self.free_bytes = needed_bytes, free_bytes


class UnsettledError(EngineError):
    """Training stopped settling: what does not settle teaches nothing.

    Parameters
    ----------
    epoch : int
    share : float
        Of the epoch's examples that settled.
    epochs : int
        In how many epochs in a row it was too few.
    """

    def __init__(self, epoch: int, share: float, epochs: int) -> None:
        times = f", and too few in {epochs} epochs in a row" if epochs > 1 else ""
        super().__init__(
            f"{share:.1%} of the examples settled in the equilibrium layers in epoch {epoch}{times}"
        )
        self.epoch, self.share, self.epochs = epoch, share, epochs


class CheckpointError(EngineError):
    """The bytes are not a checkpoint or model that this engine can load."""

    def __init__(self, version: object, reason: str) -> None:
        super().__init__(f"format version {version}: {reason}")
        self.version, self.reason = version, reason
