"""Digests of what is sent (RFC 9530): a body that was changed on its way is refused."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import IO

from werkzeug.exceptions import BadRequest

ALGORITHMS = {"sha-256": "sha256", "sha-512": "sha512"}
"""Those that the RFC calls active; what is sent of others beside them is not looked at."""

WANTED = f"Content-Digest: expected one of {', '.join(f'{each}=:BASE64:' for each in ALGORITHMS)}"

_MEMBER = re.compile(r"\s*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*={0,2}):\s*")


class DigestedBody:
    """A body that is hashed while it is read.

    Parameters
    ----------
    body : file
    said : str or None
        `Content-Digest`; without it nothing is hashed.

    Raises
    ------
    BadRequest
        It is none, or of no algorithm that is known here.
    """

    def __init__(self, body: IO[bytes], said: str | None) -> None:
        self._body = body
        self._said = {} if said is None else _read(said)
        self._found = {name: hashlib.new(ALGORITHMS[name]) for name in self._said}

    def read(self, size: int = -1) -> bytes:
        """Read up to ``size`` bytes, or all."""
        piece = self._body.read(size)
        for digest in self._found.values():
            digest.update(piece)
        return piece

    def check(self) -> None:
        """Refuse what was read unless it is what was sent."""
        for name, digest in self._found.items():
            found = base64.b64encode(digest.digest()).decode()
            if found != self._said[name]:
                reason = f"the body that came has {name}=:{found}:, not the one that was sent"
                raise BadRequest(f"Content-Digest: {reason}; send both again")


def _read(said: str) -> dict[str, str]:
    """Return the digests that are known here, by their algorithms."""
    members = [_MEMBER.fullmatch(member) for member in said.split(",")]
    known = {m[1]: m[2] for m in members if m is not None and m[1] in ALGORITHMS}
    if not known or None in members:
        raise BadRequest(f"{WANTED}; got {said[:100]!r}")
    return known
