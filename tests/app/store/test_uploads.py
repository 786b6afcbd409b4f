"""A folder that an upload is written to is locked; one that a crash left behind is not."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from app.store import uploads

HOUR = 3600


def age(folder, seconds=2 * HOUR):
    then = time.time() - seconds
    os.utime(folder, (then, then))


def test_a_folder_is_gone_after_the_upload(tmp_path):
    with uploads.folder(tmp_path) as folder:
        (folder / "upload").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_somebody_writes_is_in_use_however_old_it_is(tmp_path):
    with uploads.folder(tmp_path) as folder:
        age(folder)
        assert uploads.left_behind(tmp_path, HOUR) == []


def test_a_folder_whose_process_was_killed_is_left_behind_after_an_hour(tmp_path):
    script = (
        "import os, pathlib, sys; from app.store import uploads\n"
        "with uploads.folder(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'upload').write_bytes(b'12345')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    [folder] = tmp_path.iterdir()
    assert uploads.left_behind(tmp_path, HOUR) == []
    age(folder)
    assert uploads.left_behind(tmp_path, HOUR) == [(folder, 5)]
    assert uploads.remove(folder)
    assert not uploads.remove(folder)


@pytest.mark.parametrize("name", ["file", "missing"])
def test_what_is_no_folder_is_left_alone(tmp_path, name):
    (tmp_path / "file").write_bytes(b"x")
    age(tmp_path / "file")
    assert uploads.left_behind(tmp_path, HOUR) == []
    assert uploads.left_behind(tmp_path / name, HOUR) == []
