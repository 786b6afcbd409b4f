"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    file for room in ("engine", "app", "worker") for file in (ROOT / room).rglob("*.py")
)
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize(
    "file", [file for file in SOURCES if file.name == "__init__.py"], ids=name_of
)
def test_importing_a_package_wakes_nothing(file):
    statements = ast.parse(file.read_text()).body
    assert all(isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant) for s in statements)


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_a_module_has_no_name_that_says_nothing(file):
    assert not {"utils", "helpers", "common", "manager", "base", "misc"} & {
        file.stem,
        file.parent.name,
    }


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_imports_stand_at_the_top_or_say_why_they_come_late(file):
    text = file.read_text()
    inner = [
        text.splitlines()[node.lineno - 1]
        for function in ast.walk(ast.parse(text))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert [line for line in inner if not re.search(r"  # late: \w.{8,}", line)] == []


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_an_exclusion_carries_its_reason(file):
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        if match := re.search(r"# (noqa: [A-Z0-9, ]+|type: ignore\[[\w, -]+\])(.*)", line):
            excused = "D102" in match[1]  # the docstring is the parent's
            assert excused or len(match[2].strip(" -#")) > 8, f"line {number}"


@pytest.mark.parametrize("file", LOCKS, ids=name_of)
def test_every_locked_package_has_a_hash_and_no_address(file):
    text = file.read_text()
    assert "://" not in text
    packages = re.findall(r"^[a-z0-9][^\n]*==[^\n]*", text, re.MULTILINE)
    assert packages
    assert all(package.endswith("\\") for package in packages)


def test_the_locks_agree():
    versions = [dict(re.findall(r"^([\w.-]+)==(\S+)", f.read_text(), re.MULTILINE)) for f in LOCKS]
    names = set().union(*versions)
    assert "numpy" in names
    for name in names:
        assert len({found[name] for found in versions if name in found}) == 1, name
