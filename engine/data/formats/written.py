"""Tables that are written: pieces of columns to a file of CSV, Arrow or Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engine.data.formats.stored import read_pieces

WrittenFormat = Literal["csv", "arrow", "arrow_stream", "parquet"]


class TableWriter:
    """Writes a file piece by piece; the first piece decides on the columns.

    Parameters
    ----------
    path : Path
    file_format : WrittenFormat
    """

    def __init__(self, path: Path, file_format: WrittenFormat) -> None:
        self._path, self._format = path, file_format
        self._files = ExitStack()
        self._writer: Any = None

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write what stands at the end of a file."""
        self._files.close()

    def write(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """Write some rows: numbers, or objects that are str, bool or None."""
        arrays = [pa.array(values) for values in columns.values()]
        self._write(pa.RecordBatch.from_arrays(arrays, list(columns)))

    def append(self, path: Path) -> Iterator[int]:
        """Write all rows of an Arrow file; yields how many after every piece."""
        for batch in read_pieces(path):
            self._write(batch)
            yield batch.num_rows

    def _write(self, batch: pa.RecordBatch) -> None:
        if self._writer is None:
            self._writer = self._files.enter_context(self._open(batch.schema))
        self._writer.write_batch(batch)

    def _open(self, schema: pa.Schema) -> Any:
        out = self._files.enter_context(pa.OSFile(str(self._path), "wb"))
        match self._format:
            case "csv":
                return pa.csv.CSVWriter(out, schema)
            case "arrow":
                return pa.ipc.new_file(out, schema)
            case "arrow_stream":
                return pa.ipc.new_stream(out, schema)
            case "parquet":
                return pq.ParquetWriter(out, schema)
