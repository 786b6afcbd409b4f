"""Files in a folder and in S3 behave alike."""

from __future__ import annotations

import time
from urllib.request import Request, urlopen

import pytest

from app.store.blobs import Storage


@pytest.fixture
def folder_url(tmp_path):
    return str(tmp_path / "datasets")


@pytest.fixture
def s3_url(s3_server, monkeypatch):
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    urlopen(Request(f"{s3_server}/bucket", method="PUT")).close()  # noqa: S310 - our own server
    return "s3://bucket/datasets"


@pytest.fixture(params=["folder", "s3"])
def url(request):
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def storage(url):
    return Storage(url)


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "source"
    file.write_bytes(b"arrow")
    return file


def test_a_file_comes_back_as_it_was_put(storage, source):
    assert not storage.exists("a.arrow")
    storage.put(source, "a.arrow")
    assert storage.exists("a.arrow")
    with storage.local("a.arrow") as path:
        assert path.read_bytes() == b"arrow"


def test_a_file_is_found_by_another_process(url, storage, source):
    other = Storage(url)
    assert not other.exists("b.arrow")
    storage.put(source, "b.arrow")
    assert other.exists("b.arrow")


def test_putting_a_file_again_replaces_it(storage, source):
    storage.put(source, "c.arrow")
    source.write_bytes(b"newer")
    storage.put(source, "c.arrow")
    with storage.local("c.arrow") as path:
        assert path.read_bytes() == b"newer"


def test_deleting_twice_is_fine(storage, source):
    storage.put(source, "d.arrow")
    storage.delete("d.arrow")
    storage.delete("d.arrow")
    assert not storage.exists("d.arrow")
    with pytest.raises(FileNotFoundError), storage.local("d.arrow") as path:
        path.read_bytes()


def test_what_is_there_is_listed_with_its_size_and_age(storage, source):
    assert "f.arrow" not in {file.name for file in storage.files()}
    storage.put(source, "f.arrow")
    found = {file.name: file for file in storage.files()}["f.arrow"]
    assert found.bytes == 5
    assert abs(found.modified - time.time()) < 5
    assert storage.delete("f.arrow")
    assert "f.arrow" not in {file.name for file in storage.files()}


def test_a_prefix_without_files_lists_none(folder_url, s3_url):
    assert Storage(folder_url).files() == []
    assert Storage(f"{s3_url}-of-others").files() == []


def test_a_storage_that_is_there_answers(storage):
    storage.ping()


@pytest.mark.usefixtures("s3_url")
def test_a_storage_that_is_gone_does_not_answer(folder_url, tmp_path):
    folder = Storage(folder_url)
    (tmp_path / "datasets").rmdir()
    for storage in (folder, Storage("s3://no-such-bucket/datasets")):
        with pytest.raises(FileNotFoundError):
            storage.ping()


def test_a_put_that_breaks_off_leaves_nothing(folder_url, tmp_path):
    storage = Storage(folder_url)
    with pytest.raises(FileNotFoundError):
        storage.put(tmp_path / "missing", "e.arrow")
    assert list((tmp_path / "datasets").iterdir()) == []
