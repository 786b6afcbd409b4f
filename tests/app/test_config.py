"""Settings refuse what cannot work, and say what would."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.config import Settings


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.53", "::1", "localhost"])
def test_only_this_machine_reaches_loopback(host):
    assert Settings(host=host).is_local


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])  # noqa: S104 - only asked
def test_others_reach_any_other_address(host):
    assert not Settings(host=host).is_local


def test_keys_come_from_the_environment_as_json_and_are_not_shown(monkeypatch):
    monkeypatch.setenv("CHAINRULE_API_KEYS", '{"ada": "analytical"}')
    settings = Settings()
    assert settings.api_keys["ada"].get_secret_value() == "analytical"
    assert "analytical" not in repr(settings)


@pytest.mark.parametrize("sent", ["analytical", '["analytical"]', '{"ada": ""}', '{"": "x"}'])
def test_keys_of_another_shape_are_refused_without_being_shown(monkeypatch, sent):
    monkeypatch.setenv("CHAINRULE_API_KEYS", sent)
    with pytest.raises(ValidationError, match="api_keys") as refusal:
        Settings()
    assert "analytical" not in str(refusal.value)


def test_two_owners_cannot_share_a_key():
    with pytest.raises(ValidationError, match="give each its own"):
        Settings(api_keys={"ada": "same", "charles": "same"})


def test_a_lease_must_outlast_two_heartbeats():
    with pytest.raises(ValidationError, match="CHAINRULE_LEASE_SECONDS to at least 20"):
        Settings(lease_seconds=15, heartbeat_seconds=10)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", 65_536),
        ("max_attempts", 0),
        ("api_threads", 0),
        ("wait_limit_seconds", 61),
        ("heartbeat_seconds", 0),
        ("log_format", "xml"),
        ("database_url", "mysql://localhost/x"),
        ("database_url", "sqlite://"),
        ("broker_url", "amqp://localhost"),
        ("broker_url", "nonsense"),
        ("no_such_setting", 1),
    ],
)
def test_what_is_out_of_bounds_is_refused(name, value):
    with pytest.raises(ValidationError, match=name):
        Settings(**{name: value})


def test_database_and_storage_live_in_home_unless_they_have_an_address(tmp_path):
    settings = Settings(home=tmp_path)
    assert settings.resolved_database_url == f"sqlite:///{tmp_path}/chainrule.db"
    assert settings.resolved_storage_url == f"{tmp_path}/datasets"
    assert Path(Settings().resolved_storage_url).is_absolute()
    elsewhere = Settings(database_url="postgresql://db/chainrule", storage_url="s3://bucket")
    assert elsewhere.resolved_database_url == "postgresql://db/chainrule"
    assert elsewhere.resolved_storage_url == "s3://bucket"


def test_settings_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1


@pytest.mark.parametrize(("name", "field"), Settings.model_fields.items())
def test_every_setting_has_a_sentence(name, field):
    assert field.description, name
    assert field.description.endswith(".")
