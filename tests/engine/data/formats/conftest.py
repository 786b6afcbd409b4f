"""Folders for files."""

from __future__ import annotations

import pytest

from engine.data.formats import decoding, delimited
from tests.engine.data.formats.files import Folder


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory):
    """For tests whose examples overwrite each other's files."""
    return Folder(tmp_path_factory.mktemp("shared"))


@pytest.fixture
def small_pieces(monkeypatch):
    """Have text read in pieces of so many bytes."""

    def read_in_pieces(size):
        monkeypatch.setattr(decoding, "PIECE_BYTES", size)
        monkeypatch.setattr(delimited, "COLUMN_BYTES", 0)

    return read_in_pieces
