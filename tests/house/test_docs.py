"""What the docs name is there, and what is there the docs name."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from app.config import Settings
from app.factory import create_app

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])

LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
FILE = re.compile(r"`((?:app|engine|worker|migrations|tests|docs|examples|requirements)/[\w./-]+)`")


def read(name: str) -> str:
    return (ROOT / name).read_text()


@pytest.mark.parametrize(("name", "field"), Settings.model_fields.items())
def test_every_setting_is_documented_with_its_default(name, field):
    default = f"`{field.default}`" if field.default not in ("", {}, None) else ""
    row = f"| `CHAINRULE_{name.upper()}` | {default} | {field.description} |"
    assert row in read("docs/configuration.md")


def test_no_setting_is_documented_that_is_not_there():
    names = set(re.findall(r"^\| `CHAINRULE_(\w+)`", read("docs/configuration.md"), re.MULTILINE))
    assert names == {name.upper() for name in Settings.model_fields}


def test_the_calls_in_the_docs_are_the_routes(tmp_path):
    routes = {
        f"{method} {rule.rule.replace('<', '{').replace('>', '}')}"
        for rule in create_app(Settings(home=tmp_path)).url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if rule.endpoint not in ("static", "service.static")
    }
    documented = re.findall(r"^\| `([A-Z]+ /[^`]*)` \|", read("docs/api.md"), re.MULTILINE)
    assert sorted(documented) == sorted(routes)


def test_every_make_target_is_documented():
    targets = re.findall(r"^([a-z]+):.*## ", read("Makefile"), re.MULTILINE)
    assert len(targets) > 5
    for target in targets:
        assert f"`make {target}`" in read("CONTRIBUTING.md"), target


def test_make_alone_prints_help():
    printed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "make demo" in printed
    assert "make test" in printed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_points_to_is_there(page):
    text = page.read_text()
    for target in LINK.findall(text):
        assert (page.parent / target).exists(), target
    for file in FILE.findall(text):
        assert (ROOT / file).exists(), file


def test_the_environment_example_has_what_the_compose_file_asks_for():
    asked = set(re.findall(r"\$\{(\w+):\?", read("docker-compose.yml")))
    assert asked
    assert asked <= set(re.findall(r"^(\w+)=", read(".env.example"), re.MULTILINE))
