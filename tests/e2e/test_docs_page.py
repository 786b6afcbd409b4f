"""The docs page works in a real browser, without anything from elsewhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.config import child_environment
from tests.servers import free_port

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine; CI installs one"),
]


@pytest.fixture
def url(sqlite_url: str, tmp_path: Path) -> Iterator[str]:
    """The address of an API."""
    port = free_port()
    environment = child_environment(home=str(tmp_path), port=str(port), database_url=sqlite_url)
    api = subprocess.Popen([sys.executable, "-m", "app.cli", "api"], env=environment)
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{address}/healthz/live")
            break
        except httpx.TransportError:
            time.sleep(0.1)
    yield address
    api.terminate()
    api.wait(20)


def test_the_page_shows_every_call(url, tmp_path):
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=15000",
        "--dump-dom",
    ]
    page = subprocess.run(
        [BROWSER, *options, f"{url}/docs"], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    paths = httpx.get(f"{url}/openapi.json").json()["paths"]
    assert len(paths) > 10
    for path in paths:
        assert f'data-path="{path}"' in page
