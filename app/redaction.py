"""Redaction: what is secret is masked wherever the service says something.

Logs, what commands print, the details of problems, and the rows of failed jobs
all go through one `Redaction`. It knows the secrets of the settings by heart,
however they are written, and the rest by its form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from app.config import URLS, Settings, ambient_secrets

MASK = "***"

_NAME = re.compile(r"pass|pwd|secret|token|key|sig", re.IGNORECASE)
_TOKEN = r"[\w.~+/=-]{4,}"  # noqa: S105 - what tokens are made of


def _parameter(found: re.Match[str]) -> str:
    return f"{found[1]}={MASK}" if _NAME.search(found[1]) else found[0]


FORMS: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"(://[^\s/:@\"'<>]*:)[^\s/\"'<>]+@", rf"\1{MASK}@"),
    (r"(?<=[?&;])([\w.-]{1,64})=[^\s&;\"'<>]+", _parameter),
    (r"(\bpassword\s*=\s*)[^\s&;\"']+", rf"\1{MASK}"),
    (rf"(\bauthorization\W{{1,8}}(?:b\W)?(?:[a-z]{{1,20}}\s+)?+){_TOKEN}", rf"\1{MASK}"),
    (rf"(\bbearer\s+){_TOKEN}", rf"\1{MASK}"),
    (r"(key_[0-9a-f]{32}_)[0-9a-f]+", rf"\1{MASK}"),
)
"""Secrets that are known by their form, and what is left of each: the password of a URL, a
parameter of one or of a connection string, the header that shows a key, and a key of ours."""


class Redaction:
    """Masks secrets in whatever is said.

    Parameters
    ----------
    secrets : iterable of str
        What is masked wherever it stands, beside what has the form of a secret.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        written = {form for secret in secrets for form in _written(secret)} - {""}
        longest_first = sorted(written, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._forms = [(re.compile(form, re.IGNORECASE), left) for form, left in FORMS]

    def __call__(self, text: str) -> str:
        """Return a text without its secrets."""
        if not text.isalnum():  # all forms have other characters
            for form, left in self._forms:
                text = form.sub(left, text)
        return self._known.sub(MASK, text)

    def within(self, value: Any) -> Any:
        """Return a value of JSON without the secrets in its texts, names among them."""
        match value:
            case str():
                return self(value)
            case list():
                return [self.within(item) for item in value]
            case dict():
                return {self(name): self.within(item) for name, item in value.items()}
        return value


def of(settings: Settings) -> Redaction:
    """Return what masks the secrets of the settings and of the client libraries."""
    return Redaction([*_secrets(settings), *ambient_secrets()])


def _secrets(settings: Settings) -> Iterator[str]:
    yield from (key.get_secret_value() for key in settings.api_keys.values())
    for name in URLS:
        url = urlsplit(getattr(settings, name))
        yield url.netloc.rpartition("@")[0].partition(":")[2]
        yield from (value for key, value in parse_qsl(url.query) if _NAME.search(key))


def _written(secret: str) -> Iterator[str]:
    """Yield a secret as it is, and as URLs, JSON and Python write it."""
    for plain in (secret, unquote(secret)):
        yield plain
        yield quote(plain, safe="")
        yield json.dumps(plain)[1:-1]
        yield repr(plain)[1:-1]
