"""What is secret is masked by its value or by its form, and nothing else is."""

from __future__ import annotations

import time

import pytest

from app import redaction
from app.config import Settings
from app.doctor import host
from app.redaction import Redaction

ID = f"key_{'0a' * 16}"


def shown(**settings):
    [finding] = host.settings_set(Settings(**settings))
    return finding.fact


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
    assert shown(**{name: url}) == f"CHAINRULE_{name.upper()}={seen}"
    said = redaction.of(Settings(**{name: url}))(f"cannot open {url}, hunter2 and hun@ter2")
    assert ("hunter2" in said) == ("hunter2" not in url)
    assert ("hun@ter2" in said) == ("hun@ter2" not in url)


def test_keys_are_counted_not_shown():
    settings = Settings(api_keys={"ada": "analytical", "charles": "difference"})
    assert shown(api_keys=settings.api_keys) == "CHAINRULE_API_KEYS=(2 owners)"
    assert redaction.of(settings)("said analytical") == "said ***"


def test_only_what_is_set_is_shown():
    assert shown() == "all as by default"
    assert shown(port=81) == "CHAINRULE_PORT=81"


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PGPASSWORD"])
def test_what_libraries_take_from_the_environment_is_masked(monkeypatch, name):
    monkeypatch.setenv(name, "hunter2")
    assert redaction.of(Settings())("said hunter2") == "said ***"


@pytest.mark.parametrize(
    "written",
    ["a%2Fb%20c%22%0A", 'a/b c"\n', r"a/b c\"\n", r'a/b c"\n'],
    ids=["url", "plain", "json", "python"],
)
def test_a_secret_is_masked_however_it_is_written(written):
    settings = Settings(broker_url="redis://:a%2Fb%20c%22%0A@redis")
    assert redaction.of(settings)(f"<{written}>") == "<***>"


def test_the_longer_of_two_secrets_leaves_nothing():
    assert Redaction(["abc", "abcdef"])("abcdef abc") == "*** ***"


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("at amqp://guest:pass%20word@host:1/x?y=1", "at amqp://guest:***@host:1/x?y=1"),
        ("two: a://b:c@d and e://:f@g", "two: a://b:***@d and e://:***@g"),
        ("/x?api_key=s3cret&page=2", "/x?api_key=***&page=2"),
        ("https://s3/x?X-Amz-Signature=ab12&X-Amz-Date=1", "https://s3/x?X-Amz-Signature=***&X-Amz-Date=1"),
        ("host=db password=hunter2 dbname=x", "host=db password=*** dbname=x"),
        ("Authorization: Bearer abcd1234", "Authorization: Bearer ***"),
        ("Authorization: Basic YWRhOmI=", "Authorization: Basic ***"),
        ("{'Authorization': 'wrong-key'}", "{'Authorization': '***'}"),
        ("(b'authorization', b'Bearer abcd1234')", "(b'authorization', b'Bearer ***')"),
        ("sent bearer abcd1234", "sent bearer ***"),
        (f"key {ID}_{'f' * 64}.", f"key {ID}_***."),
        (f"cut short: {ID}_{'f' * 20}", f"cut short: {ID}_***"),
    ],
)  # fmt: skip
def test_what_has_the_form_of_a_secret_is_masked(said, left):
    assert Redaction()(said) == left


@pytest.mark.parametrize(
    "said",
    [
        "GET /v1/jobs/job_1?limit=2&cursor=x 200",
        "the lease of host:123 at 12:30:01 ended; ada@example.org was told",
        "http://127.0.0.1:8000/docs",
        f"no key {ID}",
        "send `Authorization: Bearer <key>` with a key that the service knows",
        "/training/epochs: expected at least 1, got 0",
        "sorted(found, key=len)",
    ],
)
def test_what_is_no_secret_is_left(said):
    assert Redaction(["hunter2"])(said) == said


def test_values_of_json_are_masked_at_every_depth():
    redact = Redaction(["hunter2"])
    said = {"hunter2": ["a hunter2", {"b": "hunter2"}, 2, None, True]}
    assert redact.within(said) == {"***": ["a ***", {"b": "***"}, 2, None, True]}


@pytest.mark.parametrize(
    "piece", ["?key", "://a:", "authorization ", "bearer ", "?a=", "&pass", "%"]
)
def test_no_text_takes_long(piece):
    begin = time.process_time()
    Redaction(["hunter2"])(piece * 20_000)
    assert time.process_time() - begin < 5  # the square of it would take minutes
