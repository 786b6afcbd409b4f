"""The storage is tried by a file that is gone afterwards."""

from __future__ import annotations

import pytest

from app.config import Settings
from app.doctor.checks import examine
from app.doctor.report import CHECKS
from app.store.blobs import Storage
from tests import servers

STORAGE = [check for check in CHECKS if check.name == "storage"]


def look(tmp_path, url):
    [found] = examine(STORAGE, Settings(home=tmp_path, storage_url=url))
    return found


@pytest.fixture
def s3_url(s3_server, monkeypatch):
    for name, value in servers.s3_bucket(s3_server, "doctor").items():
        monkeypatch.setenv(name, value)
    return "s3://doctor/datasets"


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_storage_that_works_keeps_nothing_of_the_trial(request, tmp_path, kind):
    url = str(tmp_path) if kind == "folder" else request.getfixturevalue("s3_url")
    found = look(tmp_path, url)
    assert (found.state, "read back" in found.fact) == ("ok", True)
    assert Storage(url).files() == []


def test_a_folder_that_is_not_there_is_not_made(tmp_path):
    assert look(tmp_path, str(tmp_path / "new")).state == "ok"
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("s3_url")
def test_a_bucket_that_is_not_there_is_wrong(tmp_path):
    found = look(tmp_path, "s3://no-such-bucket/datasets")
    assert found.state == "wrong"
    assert "CHAINRULE_STORAGE_URL" in found.advice


def test_a_file_that_is_read_otherwise_than_it_was_written_is_wrong(tmp_path, monkeypatch):
    put = Storage.put

    def garble(self, source, name):
        source.write_bytes(b"something else")
        put(self, source, name)

    monkeypatch.setattr(Storage, "put", garble)
    assert look(tmp_path, str(tmp_path)).state == "wrong"
    assert list(tmp_path.iterdir()) == []
