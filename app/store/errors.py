"""Every refusal the store can raise.

::

    StoreError
    ├── NotFoundError(kind, id)             no such row of this owner
    ├── CursorError(cursor)                 not a cursor that a page came with
    ├── IllegalMoveError(id, status, to)    a job cannot become that from what it is
    ├── LostClaimError(id, attempt)         a worker no longer has the job it writes about
    ├── CorruptArtifactError(id)            stored bytes are not those that were written
    ├── CorruptFileError(name)              the same of a file in the storage
    ├── QuotaError(what, used, limit, advice)   the owner has all that they may have
    │   └── QuotaSpentError                 and has it back by waiting
    └── ConflictError(kind, reason)         something else is in the way
        ├── KeyReusedError(key)             an idempotency key came with another request
        └── InFlightError(key)              the first request with this key is not answered yet
"""

from __future__ import annotations


class StoreError(Exception):
    """The store refused."""


class NotFoundError(StoreError):
    """Not found."""

    def __init__(self, kind: str, id: str) -> None:  # noqa: A002 - as the column is called
        super().__init__(f"there is no {kind} {id!r}")
        self.kind, self.id = kind, id


class CursorError(StoreError):
    """The cursor is not valid."""

    def __init__(self, cursor: str) -> None:
        super().__init__("expected the `next_cursor` of an earlier page")
        self.cursor = cursor


class IllegalMoveError(StoreError):
    """The job cannot do that now."""

    def __init__(self, id: str, status: str, to: str) -> None:  # noqa: A002 - as the column is called
        super().__init__(f"{id} is {status}; it cannot become {to} now")
        self.id, self.status, self.to = id, status, to


class LostClaimError(StoreError):
    """The worker no longer has the job."""

    def __init__(self, id: str, attempt: int) -> None:  # noqa: A002 - as the column is called
        super().__init__(f"attempt {attempt} at {id} is over: the job ended or went to another")
        self.id, self.attempt = id, attempt


class CorruptArtifactError(StoreError):
    """Stored bytes are damaged."""

    def __init__(self, id: str) -> None:  # noqa: A002 - as the column is called
        super().__init__(f"the bytes of {id} do not match their sha256")
        self.id = id


class CorruptFileError(StoreError):
    """A stored file is damaged."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the bytes of {name} do not match their sha256")
        self.name = name


class QuotaError(StoreError):
    """The quota is used up."""

    def __init__(self, what: str, used: float, limit: float, advice: str) -> None:
        super().__init__(f"{used:,.15g} {what}; the limit is {limit:,.15g}; {advice}")
        self.what, self.used, self.limit = what, used, limit


class QuotaSpentError(QuotaError):
    """The quota is used up for now."""


class ConflictError(StoreError):
    """Something else is in the way."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"{kind}: {reason}")
        self.kind, self.reason = kind, reason


class KeyReusedError(ConflictError):
    """The idempotency key was used for another request."""

    def __init__(self, key: str) -> None:
        super().__init__("idempotency key", "it came with another request before; use a new one")
        self.key = key


class InFlightError(ConflictError):
    """The first request with this idempotency key is not answered yet."""

    def __init__(self, key: str) -> None:
        super().__init__("idempotency key", "the first request is under way; try again soon")
        self.key = key
