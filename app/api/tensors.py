"""Tensors on the wire: the Open Inference Protocol V2, as JSON and as Triton's binary extension.

Sources: kserve/open-inference-protocol, inference_rest.md; triton-inference-server,
extension_binary_data.md.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import ValidationError
from werkzeug.exceptions import BadRequest

from app.api import schemas
from app.api.bodies import check_size, read_json
from app.api.errors import BodyError, pointer

DATATYPES = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
"""What NumPy calls them, as they are on the wire; BYTES, of strings, is apart."""

NAMES = {np.dtype(kind): name for name, kind in DATATYPES.items()}
"""What the protocol calls NumPy's."""

LENGTH_BYTES = 4
"""Before each string of a binary tensor."""

PACKINGS = {"gzip": 31, "deflate": 15}
"""What a body may be packed with; zlib's number for each."""

Values = NDArray[Any]
"""Of a tensor; those of BYTES are objects: str, or None where JSON says null."""


@dataclass(frozen=True)
class Inference:
    """A request for inference.

    Parameters
    ----------
    id : str or None
    inputs : dict of str to Values
    outputs : dict of str to bool, or None
        Which are wanted, each with whether as binary data; None for all of them.
    is_binary : bool
        Whether outputs are binary of which nothing is said.
    """

    id: str | None
    inputs: dict[str, Values]
    outputs: dict[str, bool] | None
    is_binary: bool


def unpack(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """Return a body as it was before it was packed; its size is checked while it grows."""
    if encoding not in PACKINGS:
        return body
    stream = zlib.decompressobj(PACKINGS[encoding])
    try:
        unpacked = stream.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise BadRequest(f"the body is not what {encoding} writes: {error}") from error
    check_size(len(unpacked), limit_bytes)
    if not stream.eof or stream.unused_data:
        raise BadRequest(f"the body is not one whole {encoding} stream")
    return unpacked


def pack(body: bytes, encoding: str) -> bytes:
    """Pack a body."""
    stream = zlib.compressobj(wbits=PACKINGS[encoding])
    return stream.compress(body) + stream.flush()


def read(
    body: bytes, header_bytes: int | None, parse: Callable[[bytes], Any] = read_json
) -> Inference:
    """Read a request.

    Parameters
    ----------
    body : bytes
    header_bytes : int or None
        How many of them are JSON, before binary data; None where all of them are.
    parse : callable
        Reads JSON; whatever is wrong with it is a ValueError.
    """
    if header_bytes is not None and header_bytes > len(body):
        reason = f"is {header_bytes:,}, but the body has {len(body):,} bytes"
        raise BadRequest(f"Inference-Header-Content-Length {reason}")
    end = len(body) if header_bytes is None else header_bytes
    asked = _parse(body[:end], parse)
    data = Data(memoryview(body)[end:])
    inputs: dict[str, Values] = {}
    for place, tensor in enumerate(asked.inputs):
        if tensor.name in inputs:
            raise BodyError(pointer("inputs", place, "name"), f"{tensor.name!r} is there twice")
        inputs[tensor.name] = _values(tensor, place, data)
    data.check_end()
    is_binary = bool(asked.parameters.get("binary_data_output", False))
    wanted = None
    if asked.outputs is not None:
        wanted = {
            output.name: bool(output.parameters.get("binary_data", is_binary))
            for output in asked.outputs
        }
    return Inference(asked.id, inputs, wanted, is_binary)


def read_raw(body: bytes, name: str, datatype: str, shape: tuple[int, ...]) -> Inference:
    """Read a request that is the binary data of one tensor, as many rows as there are."""
    row_bytes = np.dtype(DATATYPES[datatype]).itemsize * int(np.prod(shape, dtype=np.int64))
    if not body or len(body) % row_bytes:
        wanted = f"{row_bytes:,} bytes a row of {datatype} in the shape {list(shape)}"
        raise BadRequest(f"expected {wanted}, got {len(body):,} bytes")
    values = np.frombuffer(body, DATATYPES[datatype]).reshape(-1, *shape)
    return Inference(None, {name: values}, None, is_binary=True)


def _parse(head: bytes, parse: Callable[[bytes], Any]) -> schemas.InferenceRequest:
    try:
        said = parse(head)
    except ValueError as error:
        raise BadRequest(f"the request is not valid JSON: {error}") from error
    try:
        return schemas.InferenceRequest.model_validate(said)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BodyError(pointer(*first["loc"]), first["msg"]) from error


class Data:
    """The binary data behind a request's JSON, taken from the front.

    Parameters
    ----------
    data : memoryview
    """

    def __init__(self, data: memoryview) -> None:
        self._data = data

    def take(self, size: int, place: str) -> memoryview:
        """Take the next bytes."""
        if size > len(self._data):
            raise BodyError(place, f"{size:,} bytes are announced, {len(self._data):,} are there")
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def check_end(self) -> None:
        """Refuse what is left over."""
        if len(self._data):
            raise BadRequest(f"{len(self._data):,} bytes follow that no input announces")


def _values(tensor: schemas.InferenceInput, place: int, data: Data) -> Values:
    """Return the values of one input, in its shape."""
    size = tensor.parameters.get("binary_data_size")
    if (tensor.data is None) == (size is None):
        reason = "expected either `data` or the parameter `binary_data_size`"
        raise BodyError(pointer("inputs", place), reason)
    if size is None:
        values = _from_json(tensor, place)
    else:
        at = pointer("inputs", place, "parameters", "binary_data_size")
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise BodyError(at, "expected a number of bytes")
        values = _from_bytes(tensor.datatype, data.take(size, at), at)
    count = math.prod(tensor.shape)
    if values.size != count:
        wanted = f"{count:,} values for the shape {tensor.shape}"
        raise BodyError(pointer("inputs", place), f"expected {wanted}, got {values.size:,}")
    return values.reshape(tensor.shape)


def _from_json(tensor: schemas.InferenceInput, place: int) -> Values:
    """Return the values of JSON, nested or not."""

    def refused(reason: str) -> BodyError:
        return BodyError(pointer("inputs", place, "data"), reason)

    if tensor.datatype == "BYTES":
        found = list(_flat(tensor.data))
        if not all(isinstance(value, str) or value is None for value in found):
            raise refused("expected strings")
        values = np.empty(len(found), dtype=object)
        values[:] = found
        return values
    if tensor.datatype == "FP16":
        raise refused("JSON has no FP16; send FP32, or binary data")
    try:
        values = np.array(tensor.data)
        if values.dtype.kind == "O":  # null is a missing number
            values = values.astype(np.float64)
        if values.dtype.kind not in "biuf":
            raise refused(f"expected numbers for {tensor.datatype}")
        return values if values.dtype.kind == "f" else values.astype(np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        wanted = "numbers, in a flat array or nested evenly"
        raise refused(f"expected {wanted} for {tensor.datatype}") from error


def _flat(data: Any) -> Iterator[Any]:
    if not isinstance(data, list):
        yield data
        return
    for inner in data:
        yield from _flat(inner)


def _from_bytes(datatype: str, data: memoryview, place: str) -> Values:
    """Return the values of binary data: little-endian, strings each after its length."""
    if datatype == "BYTES":
        return _strings(data, place)
    kind = np.dtype(DATATYPES[datatype])
    if len(data) % kind.itemsize:
        raise BodyError(place, f"{len(data):,} bytes are no whole number of {datatype}")
    return np.frombuffer(data, kind)


def _strings(data: memoryview, place: str) -> Values:
    found, start = [], 0
    while start < len(data):
        end = start + LENGTH_BYTES
        size = int.from_bytes(data[start:end], "little")
        start, end = end, end + size
        if end > len(data):
            raise BodyError(place, "a string is longer than the data that is left")
        try:
            found.append(str(data[start:end], "utf-8"))
        except UnicodeDecodeError as error:
            raise BodyError(place, f"string {len(found)} is not UTF-8") from error
        start = end
    values = np.empty(len(found), dtype=object)
    values[:] = found
    return values


def write(
    head: Mapping[str, Any], outputs: Iterable[tuple[str, Values, bool]]
) -> tuple[bytes, int | None]:
    """Write an answer.

    Parameters
    ----------
    head : mapping
        What it says beside its outputs.
    outputs : iterable of (str, Values, bool)
        Name, values, and whether as binary data.

    Returns
    -------
    body : bytes
    header_bytes : int or None
        How many of them are JSON; None where all of them are.
    """
    described, data = [], []
    for name, values, is_binary in outputs:
        tensor: dict[str, Any] = {"name": name, "datatype": datatype_of(values)}
        tensor["shape"] = list(values.shape)
        if is_binary:
            data.append(_to_bytes(values))
            tensor["parameters"] = {"binary_data_size": len(data[-1])}
        else:
            flat = values.ravel()
            tensor["data"] = flat.tolist() if values.dtype == object else flat
        described.append(tensor)
    said = orjson.dumps({**head, "outputs": described}, option=orjson.OPT_SERIALIZE_NUMPY)
    return said + b"".join(data), len(said) if data else None


def datatype_of(values: Values) -> str:
    """Return what the protocol calls a type of NumPy's."""
    if values.dtype == object:
        return "BYTES"
    return NAMES[values.dtype]


def _to_bytes(values: Values) -> bytes:
    if values.dtype != object:
        return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    encoded = [str(value).encode() for value in values.ravel()]
    return b"".join(len(text).to_bytes(LENGTH_BYTES, "little") + text for text in encoded)
