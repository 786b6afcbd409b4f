"""A release is what the commit has, with a bill of all that it installs."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from app.config import VERSION

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """The folder that `make release` fills."""
    folder = tmp_path_factory.mktemp("release") / "dist"
    make = ["make", "--assume-old=.venv/dev", f"BIN={Path(sys.executable).parent}"]
    subprocess.run([*make, f"DIST={folder}", "release"], cwd=ROOT, check=True, capture_output=True)
    return folder


def locked(name):
    """Yield each locked package with its version and its hashes."""
    text = (ROOT / "requirements" / name).read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if found := re.match(r"([\w.-]+)(?:\[.*\])?==(\S+)", line):
            yield found[1], found[2], frozenset(re.findall(r"sha256:([0-9a-f]{64})", line))


def test_the_bill_names_every_locked_package_with_its_version_and_its_hashes(release):
    bill = json.loads((release / f"chainrule-{VERSION}.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "chainrule"
    assert bill["metadata"]["component"]["version"] == VERSION
    billed = {
        (
            each["name"],
            each["version"],
            frozenset(
                digest["content"]
                for reference in each["externalReferences"]
                for digest in reference["hashes"]
                if digest["alg"] == "SHA-256"
            ),
        )
        for each in bill["components"]
    }
    assert billed == set(locked("production.txt"))
    assert all(hashes for _, _, hashes in billed)


def test_the_archive_has_what_the_commit_has(release):
    listed = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    with tarfile.open(release / f"chainrule-{VERSION}.tar.gz") as archive:
        files = {member.name for member in archive if member.isfile()}
    assert files == {f"chainrule-{VERSION}/{name}" for name in listed.stdout.splitlines()}


def test_the_checksums_are_those_of_the_files(release):
    sums = dict(
        reversed(line.split("  ")) for line in (release / "SHA256SUMS").read_text().splitlines()
    )
    files = [file for file in release.iterdir() if file.name != "SHA256SUMS"]
    assert sums == {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
