"""What is shown of the settings tells an operator everything but the secrets."""

from __future__ import annotations

import pytest

from app.config import Settings
from app.doctor.secrets import shown, without_secrets


@pytest.mark.parametrize(
    ("name", "url", "seen"),
    [
        ("database_url", "postgresql://ada:hunter2@db/chain", "postgresql://ada:***@db/chain"),
        (
            "database_url",
            "postgresql://db/chain?user=ada&password=hunter2&sslmode=require",
            "postgresql://db/chain?user=ada&password=***&sslmode=require",
        ),
        ("database_url", "postgresql://ada:hun@ter2@db/chain", "postgresql://ada:***@db/chain"),
        ("broker_url", "redis://:hunter2@redis:6379/0", "redis://:***@redis:6379/0"),
        ("broker_url", "rediss://redis/0?password=hunter2", "rediss://redis/0?password=***"),
        ("storage_url", "s3://bucket/prefix", "s3://bucket/prefix"),
        ("database_url", "sqlite:////var/chain.db", "sqlite:////var/chain.db"),
    ],
)
def test_a_url_is_shown_without_its_password(name, url, seen):
    assert list(shown(Settings(**{name: url}))) == [f"CHAINRULE_{name.upper()}={seen}"]
    assert "hunter2" not in without_secrets(f"cannot open {url}", Settings(**{name: url}))


def test_keys_are_counted_not_shown():
    settings = Settings(api_keys={"ada": "analytical", "charles": "difference"})
    assert list(shown(settings)) == ["CHAINRULE_API_KEYS=(2 owners)"]
    assert "analytical" not in without_secrets("said analytical", settings)


def test_a_password_is_masked_as_it_is_and_as_a_url_has_it():
    settings = Settings(broker_url="redis://:a%2Fb%20c@redis")
    assert without_secrets("a%2Fb%20c or a/b c", settings) == "*** or ***"


def test_only_what_is_set_is_shown():
    assert list(shown(Settings())) == []
    assert list(shown(Settings(port=81))) == ["CHAINRULE_PORT=81"]
