"""Images: a ZIP with a folder for each class; every image becomes a row of bytes and its class."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from engine.data.formats.arrays import check_directory
from engine.data.formats.compression import check_expansion
from engine.data.formats.kinds import Limits, Piece, Source, numbered
from engine.data.formats.names import check_cells
from engine.errors import FormatError

COLUMN, CLASS = "image", "class"

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")

PIXEL_LIMIT = 1 << 22
FILE_LIMIT_BYTES = 1 << 25
"""How large one image may be."""

PIECE_BYTES = 1 << 24

Image.MAX_IMAGE_PIXELS = None  # what is larger than `PIXEL_LIMIT` is refused here


def open_images(path: Path, limits: Limits) -> Source:
    """Open an archive of images; all have to be of one size."""
    check_directory(path, "a ZIP archive of images in a folder for each class")
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if _is_image(member)]
            if not members:
                raise FormatError(None, None, "holds no images; expected a folder for each class")
            unpacked = sum(member.file_size for member in members)
            check_expansion(unpacked, path.stat().st_size, limits)
            first = _pixels(archive, members[0])
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise FormatError(None, None, f"not a whole ZIP archive: {error}") from error
    check_cells(2 * len(members), limits.cells)
    check_expansion(len(members) * first.nbytes, len(members) * first.nbytes, limits)
    tensor = pa.fixed_shape_tensor(pa.uint8(), first.shape)
    schema = pa.schema([(COLUMN, tensor), (CLASS, pa.string())])
    return Source(schema, lambda: _pieces(path, members, first.shape), {"shape": list(first.shape)})


def _is_image(member: zipfile.ZipInfo) -> bool:
    """Whether a member is an image to be read; refuse what has no place in such an archive."""
    parts = PurePosixPath(member.filename).parts
    if not parts:
        raise _refused(member, "has no name; name it by folder and file")
    if "\\" in member.filename or member.filename.startswith("/") or ".." in parts:
        raise _refused(member, "leads out of the archive; name it by folders within")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise _refused(member, "is a link; put the image there")
    if member.flag_bits & 1:
        raise _refused(member, "is encrypted; send it without a password")
    if member.is_dir() or parts[0] == "__MACOSX" or parts[-1].startswith("."):
        return False
    if not member.filename.lower().endswith(SUFFIXES):
        raise _refused(member, f"is no image; expected {', '.join(SUFFIXES)}")
    if len(parts) < 2:
        raise _refused(member, "is in no folder; expected a folder for each class")
    return True


def _refused(member: zipfile.ZipInfo, reason: str) -> FormatError:
    return FormatError(None, None, f"the member {member.filename[:100]!r} {reason}")


def _pieces(path: Path, members: list[zipfile.ZipInfo], shape: tuple[int, ...]) -> Iterator[Piece]:
    most = max(1, PIECE_BYTES // int(np.prod(shape)))
    with zipfile.ZipFile(path) as archive:
        for start in range(0, len(members), most):
            some = members[start : start + most]
            images = [_pixels(archive, member) for member in some]
            for member, image in zip(some, images, strict=True):
                if image.shape != shape:
                    wanted = f"has the shape {list(image.shape)}, the first {list(shape)}"
                    raise _refused(member, f"{wanted}; bring all to one size and colours")
            classes = [PurePosixPath(member.filename).parts[-2] for member in some]
            tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(np.stack(images))
            batch = pa.RecordBatch.from_arrays([tensors, pa.array(classes)], [COLUMN, CLASS])
            yield Piece(batch, numbered(start + 1))


def _pixels(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[np.uint8]:
    """Return an image as bytes of shape (height, width), with colours (3, height, width)."""
    if member.file_size > FILE_LIMIT_BYTES:
        raise _refused(member, f"is larger than the {FILE_LIMIT_BYTES:,} bytes allowed")
    try:
        with archive.open(member) as packed:
            content = io.BytesIO(packed.read(FILE_LIMIT_BYTES + 1))
        with Image.open(content, formats=FORMATS) as image:
            _check_size(member, image)
            grey = image.mode in ("1", "L", "LA", "I", "I;16", "F")
            values: NDArray[Any] = np.asarray(image.convert("L" if grey else "RGB"))
    except FormatError:
        raise
    except Exception as error:  # noqa: BLE001 - zipfile, zlib and Pillow each raise their own
        raise _refused(member, f"cannot be read: {str(error)[:100]}") from error
    return values if grey else np.ascontiguousarray(values.transpose(2, 0, 1))


def _check_size(member: zipfile.ZipInfo, image: Image.Image) -> None:
    if image.width * image.height > PIXEL_LIMIT:
        size = f"{image.width:,} by {image.height:,}"
        raise _refused(member, f"has {size} pixels; at most {PIXEL_LIMIT:,} are allowed")
