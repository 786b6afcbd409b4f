"""Secrets: what of the settings is never shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qsl, unquote, urlsplit

from app.config import Settings

_SECRET_NAME = re.compile(r"pass|pwd|secret|token|key|sig", re.IGNORECASE)
_URLS = ("database_url", "broker_url", "storage_url")


def without_secrets(text: str, settings: Settings) -> str:
    """Mask every secret in what a library said, which may have quoted a URL."""
    for secret in _secrets(settings):
        text = text.replace(secret, "***")
    return text


def _secrets(settings: Settings) -> list[str]:
    """Return every secret as it may be printed, the longest first."""
    found = {key.get_secret_value() for key in settings.api_keys.values()}
    for name in _URLS:
        found |= set(_in_url(getattr(settings, name)))
    return sorted(found - {""}, key=len, reverse=True)


def shown(settings: Settings) -> Iterator[str]:
    """Yield the settings that were set, as ``NAME=value``, with secrets left out."""
    for name in sorted(settings.model_fields_set):
        yield f"CHAINRULE_{name.upper()}={_value(settings, name)}"


def _value(settings: Settings, name: str) -> str:
    if name == "api_keys":
        return f"({len(settings.api_keys)} owners)"
    value = str(getattr(settings, name))
    return _masked(value) if name in _URLS else value


def _masked(url: str) -> str:
    """Mask every secret where it stands in a URL."""
    head, at, tail = url.rpartition("@")
    if at and "://" in head:
        scheme, _, user = head.partition("://")
        name, colon, _ = user.partition(":")
        url = f"{scheme}://{name}{':***' if colon else ''}@{tail}"
    return re.sub(
        r"([?&;])([^=&;]*)=([^&;]*)",
        lambda m: f"{m[1]}{m[2]}={'***' if _SECRET_NAME.search(m[2]) else m[3]}",
        url,
    )


def _in_url(url: str) -> Iterator[str]:
    """Yield the secrets of a URL, written as in a URL and as they are."""
    parts = urlsplit(url)
    _, _, password = parts.netloc.rpartition("@")[0].partition(":")
    yield from (password, unquote(password))
    for name, value in parse_qsl(parts.query):
        if _SECRET_NAME.search(name):
            yield value
