"""A host keeps copies of what is stored elsewhere: whole, few, and fetched once for all who ask."""

from __future__ import annotations

import hashlib
import mmap
import multiprocessing
import os
import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.config import Settings
from app.store.blobs import Storage
from app.store.cache import Cache, Source
from app.store.errors import CorruptFileError
from app.store.seals import sealed
from tests import servers
from tests.app.store.rows import race

SIZE = 1000


class Elsewhere:
    """A storage that counts what is fetched, and lets a test act in the midst of it."""

    def __init__(self):
        self.files, self.fetched = {}, []
        self.midway = lambda _path: None

    def add(self, fill, size=SIZE):
        content = bytes([fill]) * size
        name = f"table-{hashlib.sha256(content).hexdigest()}.arrow"
        self.files[name] = content
        return Source(name, lambda: size, lambda path: self.fetch(name, path))

    def fetch(self, name, path):
        self.fetched.append(name)
        half = len(self.files[name]) // 2
        with path.open("wb") as out:
            out.write(self.files[name][:half])
            out.flush()
            self.midway(path)
            out.write(self.files[name][half:])


@pytest.fixture
def elsewhere():
    return Elsewhere()


@pytest.fixture
def make_cache(tmp_path):
    """Open the host's cache, like a process of its own."""

    def make(limit=10 * SIZE):
        return Cache(tmp_path / "cache", limit, tmp_path / "scratch")

    return make


@pytest.fixture
def cache(make_cache):
    return make_cache()


def read(cache, source):
    with cache.file(source) as path:
        return path.read_bytes()


def kept(tmp_path, *sources):
    """Say which of the sources have a copy, and that nothing else is there."""
    names = {path.name for path in (tmp_path / "cache").iterdir()}
    here = [source.name in names for source in sources]
    assert sum(here) == len(names), names
    assert list((tmp_path / "scratch").glob("*")) == []
    return here


def test_what_was_fetched_once_is_read_from_the_copy_by_every_process(make_cache, elsewhere):
    source = elsewhere.add(1)
    for _ in range(3):
        assert read(make_cache(), source) == elsewhere.files[source.name]
    assert elsewhere.fetched == [source.name]


def test_of_many_who_ask_at_once_one_fetches(make_cache, elsewhere):
    source, waiting = elsewhere.add(1), threading.Barrier(8, timeout=20)
    elsewhere.midway = lambda _path: waiting.wait()

    def ask(number):
        if number:  # once the first is in the midst of it
            waiting.wait()
        return read(make_cache(), source)

    assert race(8, ask) == [elsewhere.files[source.name]] * 8
    assert elsewhere.fetched == [source.name]


def test_two_files_are_fetched_beside_each_other(cache, elsewhere):
    sources, both = [elsewhere.add(fill) for fill in range(2)], threading.Barrier(2, timeout=20)
    elsewhere.midway = lambda _path: both.wait()
    read_at_once = race(2, lambda number: read(cache, sources[number]))
    assert read_at_once == [elsewhere.files[source.name] for source in sources]


def test_what_was_read_longest_ago_makes_room(make_cache, elsewhere, tmp_path):
    cache, sources = make_cache(3 * SIZE), [elsewhere.add(fill) for fill in range(4)]
    for number in (0, 1, 2, 0, 3):
        read(cache, sources[number])
    assert kept(tmp_path, *sources) == [True, False, True, True]


def test_what_comes_in_counts_before_it_is_there(make_cache, elsewhere, tmp_path):
    cache, sources = make_cache(3 * SIZE), [elsewhere.add(fill) for fill in range(5)]
    for source in sources[:3]:
        read(cache, source)
    most, both = [], threading.Barrier(2, timeout=20)

    def look(_path):
        both.wait()
        sizes = [len(elsewhere.files[path.name[-76:]]) for path in (tmp_path / "cache").iterdir()]
        most.append(sum(sizes))
        both.wait()

    elsewhere.midway = look
    race(2, lambda number: read(cache, sources[3 + number]))
    assert max(most) <= 3 * SIZE
    assert kept(tmp_path, *sources)[3:] == [True, True]


@pytest.mark.parametrize("limit", [0, SIZE - 1])
def test_a_file_larger_than_the_limit_is_read_and_not_kept(make_cache, elsewhere, tmp_path, limit):
    source, cache = elsewhere.add(1), make_cache(limit)
    (tmp_path / "cache").mkdir()
    for _ in range(2):
        assert read(cache, source) == elsewhere.files[source.name]
    assert elsewhere.fetched == [source.name] * 2
    assert kept(tmp_path, source) == [False]


def test_a_file_that_is_read_stays_and_one_without_room_is_not_kept(
    make_cache, elsewhere, tmp_path
):
    cache, (first, second) = make_cache(SIZE), [elsewhere.add(fill) for fill in range(2)]
    with cache.file(first) as path:
        assert read(cache, second) == elsewhere.files[second.name]
        assert path.read_bytes() == elsewhere.files[first.name]
    assert kept(tmp_path, first, second) == [True, False]
    read(cache, second)
    assert kept(tmp_path, first, second) == [False, True]


def test_a_file_that_is_mapped_outlives_its_copy(make_cache, elsewhere):
    cache, (first, second) = make_cache(SIZE), [elsewhere.add(fill) for fill in range(2)]
    with cache.file(first) as path, path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with mapped:
        read(cache, second)
        assert not path.exists()
        assert mapped[:] == elsewhere.files[first.name]


def test_a_name_that_does_not_say_what_the_bytes_are_is_not_kept(cache, elsewhere, tmp_path):
    elsewhere.files["table.arrow"] = b"1234"
    source = Source("table.arrow", lambda: 4, lambda path: elsewhere.fetch("table.arrow", path))
    assert read(cache, source) == b"1234"
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"x" + data[1:]])
def test_a_copy_that_is_damaged_is_fetched_again(cache, elsewhere, damage):
    source = elsewhere.add(1)
    with cache.file(source) as path:
        whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert race(4, lambda _: read(cache, source)) == [whole] * 4
    assert elsewhere.fetched == [source.name] * 2


@pytest.mark.parametrize("limit", [0, 10 * SIZE])
def test_a_file_that_is_damaged_itself_is_refused_and_not_kept(
    make_cache, elsewhere, tmp_path, limit
):
    source = elsewhere.add(1)
    elsewhere.files[source.name] = bytes(SIZE)
    (tmp_path / "cache").mkdir()
    with pytest.raises(CorruptFileError):
        read(make_cache(limit), source)
    assert kept(tmp_path, source) == [False]


def test_a_fetch_that_fails_leaves_nothing_and_the_next_one_is_done(cache, elsewhere, tmp_path):
    source = elsewhere.add(1)

    def fail(_path):
        elsewhere.midway = lambda _path: None
        raise ConnectionError

    elsewhere.midway = fail
    with pytest.raises(ConnectionError):
        read(cache, source)
    assert kept(tmp_path, source) == [False]
    assert read(cache, source) == elsewhere.files[source.name]


def _die(folder, scratch):
    elsewhere = Elsewhere()
    elsewhere.midway = lambda _path: os.kill(os.getpid(), signal.SIGKILL)
    read(Cache(folder, 10 * SIZE, scratch), elsewhere.add(1))


def test_what_a_crash_in_the_midst_left_is_not_taken_for_whole_and_goes(cache, elsewhere, tmp_path):
    process = multiprocessing.get_context("forkserver").Process(
        target=_die, args=(tmp_path / "cache", tmp_path / "scratch")
    )
    process.start()
    process.join()
    [left] = (tmp_path / "cache").iterdir()
    assert (left.stat().st_size, left.name.startswith(".incoming-")) == (SIZE // 2, True)
    first, second = elsewhere.add(1), elsewhere.add(2)
    read(cache, second)
    assert kept(tmp_path, first, second) == [False, True]
    assert read(cache, first) == elsewhere.files[first.name]


def test_readers_and_evictions_at_once_break_nothing(make_cache, elsewhere, tmp_path, thorough):
    sources = [elsewhere.add(fill) for fill in range(4)]

    def use(number):
        cache = make_cache(2 * SIZE)
        for turn in range(500 if thorough else 30):
            source = sources[(turn * (number + 1)) % 4]
            assert read(cache, source) == elsewhere.files[source.name]
            if turn % 7 == number:
                cache.forget(source.name)

    assert race(4, use) == [None] * 4
    assert sum(kept(tmp_path, *sources)) <= 2


# With S3.


@pytest.fixture
def make_host(s3_server, monkeypatch, tmp_path):
    """Open the storage as on a host of its own; the hosts share one bucket."""
    for name, value in servers.s3_bucket(s3_server, "hosts").items():
        monkeypatch.setenv(name, value)

    def make(name, **changes):
        settings = {"home": tmp_path / name, "storage_url": "s3://hosts/datasets", **changes}
        return Storage.of(Settings(**settings))

    return make


@pytest.fixture
def fetches(monkeypatch):
    """The names that were fetched from S3, one after another."""
    fetched, fetch = [], Storage._fetch

    def count(self, name, target):
        fetched.append(name)
        fetch(self, name, target)

    monkeypatch.setattr(Storage, "_fetch", count)
    return fetched


@pytest.fixture
def stored(make_host, tmp_path):
    """A file that one host has stored."""
    file = tmp_path / "table.arrow"
    file.write_bytes(bytes(range(256)))
    name = sealed("table_1", file)
    make_host("api").put(file, name, move=True)
    yield name
    make_host("api").delete(name)


def contents(storage, name):
    with storage.local(name) as path:
        return path.read_bytes()


def test_each_host_fetches_a_file_once_for_all_of_its_processes(make_host, stored, fetches):
    for host in ("api", "worker", "worker", "api"):
        assert contents(make_host(host), stored) == bytes(range(256))
    assert fetches == [stored] * 2


def test_the_copy_of_a_file_that_is_deleted_goes(make_host, stored, tmp_path):
    for host in ("api", "worker"):
        contents(make_host(host), stored)
    make_host("api").delete(stored)
    assert list((tmp_path / "api" / "cache").iterdir()) == []
    assert contents(make_host("worker"), stored)  # until there is no room for it
    with pytest.raises(FileNotFoundError):
        contents(make_host("third"), stored)


def test_without_room_for_copies_it_works_all_the_same(make_host, stored, tmp_path, fetches):
    storage = make_host("small", cache_limit_bytes=255)
    with ExitStack() as stack:
        two = [stack.enter_context(storage.local(stored)) for _ in range(2)]
        assert [path.read_bytes() for path in two] == [bytes(range(256))] * 2
    assert fetches == [stored] * 2
    assert not any(path.is_file() for path in Path(tmp_path / "small").rglob("*"))


def test_a_folder_is_read_where_it_is(tmp_path):
    storage, file = Storage.of(Settings(home=tmp_path)), tmp_path / "table.arrow"
    file.write_bytes(b"arrow")
    name, before = sealed("table_1", file), file.stat().st_ino
    storage.put(file, name, move=True)
    with storage.local(name, check=True) as path:
        assert path.stat().st_ino == before  # moved, not copied
    assert not (tmp_path / "cache").exists()
