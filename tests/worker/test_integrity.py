"""A job trains on exactly the bytes it was accepted with, or says that they are gone."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from app.store.blobs import Storage
from app.store.errors import CorruptFileError
from app.store.lifecycle import JobStatus
from app.store.seals import check, sealed
from engine.data.formats.stored import read_table
from tests.app.store.rows import look
from tests.worker.work import Beside, queue


@pytest.fixture
def alter(storage, iris):
    """Change one number in the dataset's file, which no reader would notice."""

    def act():
        with storage.local(iris.location) as file:
            before = read_table(file)
            data = bytearray(file.read_bytes())
            place = data.index(pa.array([5.1]).buffers()[1].to_pybytes()[:8])
            data[place] ^= 1
            file.write_bytes(data)
            assert read_table(file).rows == before.rows

    return act


@pytest.mark.parametrize("begun", [False, True])
def test_a_dataset_that_was_altered_is_not_trained_on(database, iris, make_runner, alter, begun):
    job = queue(database, iris)
    if begun:
        make_runner(Beside(lambda: True, at=3)).run()
    alter()
    make_runner().run()
    found = look(database, job)
    assert (found.status, found.error_code) == (JobStatus.FAILED, "dataset_damaged")
    assert "upload it again" in found.error_detail
    assert found.epoch == (3 if begun else 0)


def test_a_name_tells_the_bytes_and_one_that_does_not_is_believed(tmp_path):
    file = tmp_path / "table.arrow"
    file.write_bytes(b"cells")
    name = sealed("table_1", file)
    storage = Storage(str(tmp_path / "storage"))
    storage.put(file, name)
    with storage.local(name) as stored:
        check(stored, name)
        check(stored, "table_of_an_older_release.arrow")
        Path(stored).write_bytes(b"Cells")
        with pytest.raises(CorruptFileError, match=r"table_1-[0-9a-f]{64}\.arrow"):
            check(stored, name)
