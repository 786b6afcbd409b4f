"""Images: a ZIP with one folder for each class."""

from __future__ import annotations

from pathlib import Path

from engine.data.formats.kinds import Limits, Source
from engine.errors import FormatError


def open_images(path: Path, limits: Limits) -> Source:
    """Open an archive of images."""
    raise FormatError(None, None, f"not read yet: {path} {limits}")
