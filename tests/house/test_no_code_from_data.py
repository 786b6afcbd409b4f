"""Data stays data: nothing that runs it, fetches what it names, or unpacks it unseen.

A name is banned wherever it is imported, called or mentioned. Where one is the very point
of a file, the file is excused by name, with the reason.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("engine", "app", "worker", "migrations", "examples")
SOURCES = sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))

BUILTIN = {"eval", "exec", "compile", "__import__"}

CODE = BUILTIN | {
    *("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"),
    *("torch", "runpy", "code", "codeop", "pandas.read_pickle", "numpy.lib.format.read_array"),
    *("os.system", "os.popen", "subprocess.getoutput"),
    *("multiprocessing.connection", "logging.config"),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "yaml.Loader"),
}
"""What runs, or may run, what it reads."""

FETCHING = {
    *("urllib.request", "http.client", "httpx", "requests", "aiohttp", "urllib3", "socket"),
    *("ftplib", "smtplib", "webbrowser"),
}
"""What talks to an address."""

UNPACKING = {"zipfile", "tarfile", "shutil.unpack_archive"}
"""What writes or reads what an archive says of itself."""

BANNED = CODE | FETCHING | UNPACKING

EXCUSED = {
    ("app/demo.py", "httpx"): "a client of the service, at the address it was started at",
    ("app/doctor/host.py", "httpx"): "asks the service at the operator's own host and port",
    ("app/launcher.py", "socket"): "looks whether the operator's own port is free",
    ("worker/lease.py", "socket"): "asks for the name of this machine",
    ("engine/data/formats/arrays.py", "zipfile"): "unpacks an NPZ to files that it numbers itself",
    ("engine/data/formats/images.py", "zipfile"): "reads images, and writes none to a file",
    ("examples/iris.py", "httpx"): "a client of the service",
    ("examples/characters.py", "httpx"): "a client of the service",
    ("examples/forecasts.py", "httpx"): "a client of the service",
}

SERIALIZERS = ("accept_content", "task_serializer", "result_serializer", "event_serializer")


def names_of(tree: ast.AST) -> dict[str, str]:
    """Return what each name at hand stands for, by the imports anywhere in the file."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for found in node.names:
                if found.asname:
                    names[found.asname] = found.name
                else:
                    first = found.name.partition(".")[0]
                    names[first] = first
        elif isinstance(node, ast.ImportFrom):
            for found in node.names:
                names[found.asname or found.name] = f"{node.module}.{found.name}"
    return names


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    """Return the full name of what is mentioned; nothing for what has none."""
    match node:
        case ast.Name(name):
            return names.get(name, name if name in BUILTIN else "?")
        case ast.Attribute(value, name):
            owner = dotted(value, names)
            return f"{owner}.{name}" if owner else f"?.{name}"
    return ""


def banned(name: str) -> str | None:
    """Return the ban that a name falls under, as a whole or by what it is a part of."""
    pieces = name.split(".")
    heads = (".".join(pieces[:size]) for size in range(1, len(pieces) + 1))
    return next((head for head in heads if head in BANNED), None)


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((each.value for each in call.keywords if each.arg == name), None)


def faults(source: str) -> Iterator[str]:
    """Yield what a source does that it may not, each once for a mention."""
    tree = ast.parse(source)
    names = names_of(tree)
    for node in ast.walk(tree):
        yield from _of_names(node, names)
        yield from _of_settings(node)
        if isinstance(node, ast.Call):
            yield from _of_call(node, dotted(node.func, names))


def _of_names(node: ast.AST, names: dict[str, str]) -> Iterator[str]:
    mentioned: list[str] = []
    match node:
        case ast.Import(found):
            mentioned = [each.name for each in found]
        case ast.ImportFrom(module, found):
            mentioned = [f"{module}.{each.name}" for each in found]
        case ast.Name() | ast.Attribute():
            mentioned = [dotted(node, names)]
    yield from filter(None, map(banned, mentioned))


def _of_settings(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.keyword(name) | ast.Assign([ast.Attribute(_, name)]) if name in SERIALIZERS:
            yield from _of_serializer(node.value)
        case ast.Dict(keys, values):
            for key, value in zip(keys, values, strict=True):
                if isinstance(key, ast.Constant) and key.value in SERIALIZERS:
                    yield from _of_serializer(value)


def _of_call(call: ast.Call, name: str) -> Iterator[str]:
    if name in ("numpy.load", "numpy.lib.npyio.load"):
        allowed = keyword(call, "allow_pickle")
        if not (isinstance(allowed, ast.Constant) and allowed.value is False):
            yield "numpy.load without allow_pickle=False"
    shell = keyword(call, "shell")
    if shell is not None and not (isinstance(shell, ast.Constant) and shell.value is False):
        yield "shell"
    method = name.rpartition(".")[2]
    if method in ("extract", "extractall", "read_array", "open_memmap"):
        yield method


def _of_serializer(value: ast.expr) -> Iterator[str]:
    said = {each.value for each in ast.walk(value) if isinstance(each, ast.Constant)}
    if not said <= {"json", "application/json"}:
        yield "serializer"


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


def test_there_are_sources():
    assert {file.relative_to(ROOT).parts[0] for file in SOURCES} == set(ROOMS)


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_a_file_only_takes_data_for_data(file):
    name = name_of(file)
    assert [each for each in faults(file.read_text()) if (name, each) not in EXCUSED] == []


@pytest.mark.parametrize(("name", "fault"), EXCUSED)
def test_an_excuse_is_needed(name, fault):
    assert fault in set(faults((ROOT / name).read_text()))


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import pickle as p",
        "from pickle import loads",
        "def f():\n    import cPickle",
        "import dill, os",
        "from torch import load",
        "import joblib.numpy_pickle",
        "import shelve",
        "from marshal import loads as l",
        "eval('1')",
        "run = exec",
        "map(compile, [])",
        "__import__('x')",
        "import os\nos.system('x')",
        "from os import system",
        "import os as o\no.popen('x')",
        "import subprocess\nsubprocess.run('x', shell=True)",
        "import subprocess as s\ns.Popen('x', shell=bool(1))",
        "import numpy as np\nnp.load('x')",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "from numpy import load\nload('x', allow_pickle=yes)",
        "from numpy.lib.format import read_array",
        "import yaml\nyaml.load('x')",
        "import yaml\nyaml.load('x', Loader=yaml.Loader)",
        "from yaml import unsafe_load",
        "import zipfile",
        "from tarfile import open",
        "import shutil\nshutil.unpack_archive('x')",
        "archive.extractall('x')",
        "import urllib.request",
        "from urllib.request import urlopen",
        "from urllib import request",
        "import httpx",
        "import requests",
        "import socket",
        "celery.conf.update(accept_content=['json', 'pickle'])",
        "conf.task_serializer = 'yaml'",
        "conf = {'result_serializer': 'msgpack'}",
    ],
)
def test_what_is_banned_is_found(source):
    assert list(faults(source))


@pytest.mark.parametrize(
    "source",
    [
        "import re\nre.compile('x')",
        "from urllib.parse import quote",
        "import numpy as np\nnp.load('x', allow_pickle=False)",
        "import yaml\nyaml.safe_load('x')",
        "import subprocess\nsubprocess.run(['x'])",
        "celery.conf.update(accept_content=['json'])",
        "model.eval_rows()",
        "code = requests = 1\nprint(code, requests, error.code)",
    ],
)
def test_what_is_harmless_is_left(source):
    assert list(faults(source)) == []
