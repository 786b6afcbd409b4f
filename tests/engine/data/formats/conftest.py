"""Folders for files."""

from __future__ import annotations

import pytest

from tests.engine.data.formats.files import Folder


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory):
    """For tests whose examples overwrite each other's files."""
    return Folder(tmp_path_factory.mktemp("shared"))
