"""The API over a real database, two owners, and models that were trained."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from app.config import Settings
from app.factory import create_app
from tests import canaries
from tests.app.api.callers import DIGITS, KEYS, Caller, parts, sampled


@pytest.fixture(autouse=True)
def no_canary_is_logged() -> Iterator[None]:
    """Fail the test that has a secret logged."""
    with canaries.listening():
        yield


@pytest.fixture
def database_kind(request: pytest.FixtureRequest) -> str:
    """SQLite, unless a test is marked to run on each."""
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture
def make_app(
    request: pytest.FixtureRequest, database_kind: str, tmp_path: Path
) -> Iterator[Callable[..., Flask]]:
    """Put applications together over one database, each like a process of its own."""
    url = request.getfixturevalue(f"{database_kind}_url")
    made: list[Flask] = []

    def make(**changes: Any) -> Flask:
        settings = {"home": tmp_path, "database_url": url, "api_keys": KEYS, **changes}
        made.append(create_app(Settings(**settings)))
        made[-1].test_client_class = canaries.Client
        return made[-1]

    yield make
    for app in made:
        parts(app).database.dispose()


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    """The API of a test's own."""
    return make_app()


@pytest.fixture
def ada(app: Flask) -> Caller:
    """One owner."""
    return Caller(app, KEYS["ada"])


@pytest.fixture
def charles(app: Flask) -> Caller:
    """Another owner."""
    return Caller(app, KEYS["charles"])


@pytest.fixture(scope="session")
def library(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """A caller whose datasets and models are shared by tests that only look at them."""
    home = tmp_path_factory.mktemp("library")
    file = shutil.copy(sqlite_template, home / "chainrule.db")
    app = create_app(Settings(home=home, database_url=f"sqlite:///{file}", api_keys=KEYS))
    app.test_client_class = canaries.Client
    yield Caller(app, KEYS["ada"])
    parts(app).database.dispose()


@pytest.fixture(scope="session")
def neighbour(library: Caller) -> Caller:
    """Another owner beside the library's."""
    return Caller(library.app, KEYS["charles"])


@pytest.fixture(scope="session")
def iris(library: Caller) -> str:
    """The dataset of irises."""
    return library.dataset()


@pytest.fixture(scope="session")
def goods(library: Caller) -> str:
    """A dataset with columns of every type."""
    return library.dataset(sampled())


@pytest.fixture(scope="session")
def iris_model(library: Caller, iris: str) -> str:
    """A model that tells irises apart."""
    return library.model(iris, training={"epochs": 40, "batch_size": 8})


@pytest.fixture(scope="session")
def digits_model(library: Caller) -> str:
    """A model that reads digits."""
    return library.model(library.dataset(DIGITS), "digit")


@pytest.fixture(scope="session")
def price_model(library: Caller, goods: str) -> str:
    """A regression on numbers, a flag and a category."""
    features = ["size", "count", "fresh", "colour"]
    training = {"epochs": 60, "batch_size": 8}
    optimizer = {"type": "adam", "learning_rate": 0.02}
    return library.model(goods, "price", features=features, training=training, optimizer=optimizer)
