"""The short way: what a model is asked again and again is answered without Flask.

Flask's route is the whole implementation. When it has answered a request, what it found out is
remembered for a second: that this key may ask by this path, and which model is meant. Meanwhile
a plain request with the same key and path is answered by the same functions; whatever is unusual
about one, or wrong with it, is left to Flask.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from flask import Flask, Response, g, request

from app.api import gate, inference, models, parsing, schemas, tables
from app.api.bodies import read_quickly
from app.api.inference import Named
from app.api.login import Login
from app.api.together import Together
from app.config import Settings
from app.predictor import Predictor, Served
from engine.arrays import Matrix
from engine.data.scaling import Numbers
from engine.model import Model
from engine.scoring import Decision

REMEMBERED_SECONDS = 1.0
"""A revoked key, a deleted model and a name that was switched elsewhere take effect after so
long at most; what changes in this process does so at once."""

RENEWED_SECONDS = 0.5
"""After so long one request goes to Flask, which remembers anew, while others still need not."""

MOST_REMEMBERED = 1024

QUICK_BYTES = 1 << 15
QUICK_MULTIPLY_ADDS = 1 << 22
"""Larger bodies, and more arithmetic, are not for the event loop."""

GONE = frozenset({401, 403, 404, 429})
"""Answers after which nothing holds that was remembered."""

ASKED = "chainrule.asked"
"""Where the environment has what was asked, for it to be remembered."""

PREDICT, INFER = "models.predict", "inference.infer"
ENDPOINTS = frozenset({PREDICT, INFER, "inference.infer_version"})

PATHS = b"/predict", b"/infer"
"""How the paths of these end."""

CHANGING = frozenset({"models", "names", "keys"})
"""Blueprints whose calls, where they are not to look, may change what is remembered."""

PLAIN = frozenset(
    {
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"authorization",
        b"connection",
        b"content-length",
        b"content-type",
        b"host",
        b"inference-header-content-length",
        b"traceparent",
        b"tracestate",
        b"user-agent",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-request-id",
    }
)
"""Headers that change nothing about an answer, or are looked at here."""

PLAIN_ANSWERS = frozenset({b"*/*", b"application/json", b"application/json, */*"})
"""What `Accept` may say."""

USUAL = Decision()
"""Of a request that says nothing of probabilities."""

LASTING = tuple(
    (name.lower().encode(), value.encode())
    for name, value in {**gate.HEADERS, "Cache-Control": "no-store"}.items()
)
"""Headers of every answer."""

HEADER = inference.HEADER.lower().encode()

INFERENCE_FIELDS = frozenset(schemas.InferenceRequest.model_fields)
TENSOR_FIELDS = frozenset(schemas.InferenceInput.model_fields)

Headers = Mapping[bytes, bytes]
Key = tuple[bytes, bytes, bytes]
Answering = Callable[[Matrix | None], tuple[bytes, list[tuple[bytes, bytes]]]]
Finish = Callable[[Matrix | None], "Found"]


@dataclass(slots=True)
class Known:
    """What is remembered of an answer.

    Parameters
    ----------
    endpoint, path : str
    named : Named
    columns : int
        How many values a row of tensors has at least.
    quick_rows : int
        So many rows are little arithmetic.
    renew_at, end : float
        On the clock of `time.perf_counter`, as ``begun`` of `Asked`.
    """

    endpoint: str
    path: str
    named: Named
    columns: int
    quick_rows: int
    renew_at: float
    end: float


class Asked(NamedTuple):
    """A request that may be answered the short way.

    Parameters
    ----------
    key : Key
    turn : int
        How often everything was forgotten before it.
    known : Known or None
        None where Flask is to answer it, and it is remembered then.
    headers : mapping of bytes to bytes
    size : int
        Of its body, in bytes.
    begun : float
    """

    key: Key
    turn: int
    known: Known | None
    headers: Headers
    size: int
    begun: float


class Found(NamedTuple):
    """An answer as ASGI sends it."""

    start: dict[str, Any]
    body: bytes


class HotPath:
    """Remembers who asked which model, and answers the same again.

    Parameters
    ----------
    settings : Settings
        Where requests are counted nothing is remembered: every one has to be.
    login : Login
    predictor : Predictor
    """

    def __init__(self, settings: Settings, login: Login, predictor: Predictor) -> None:
        self._login, self._predictor = login, predictor
        self._is_on = settings.owner_requests_per_minute is None
        self._limit = settings.body_limit_bytes
        self._known: dict[Key, Known] = {}
        self._turn = 0
        self._lock = threading.Lock()
        self._together = Together()

    def asked(self, scope: Mapping[str, Any]) -> Asked | None:
        """Return what a request asks, unless something about it is unusual."""
        if not self._is_on or scope["method"] != "POST" or scope["query_string"]:
            return None
        if not scope["raw_path"].endswith(PATHS):
            return None
        headers = dict(scope["headers"])
        if len(headers) != len(scope["headers"]) or not headers.keys() <= PLAIN:
            return None
        if headers.get(b"accept", b"*/*") not in PLAIN_ANSWERS:
            return None
        length = headers.get(b"content-length", b"")
        size = int(length) if length.isdigit() else 0
        if not 0 < size <= self._limit:
            return None
        key = scope["raw_path"], headers.get(b"host", b""), headers.get(b"authorization", b"")
        known = self._recall(key) if self._login.listens_to(_address(scope, headers)) else None
        return Asked(key, self._turn, known, headers, size, time.perf_counter())

    def _recall(self, key: Key) -> Known | None:
        known = self._known.get(key)
        if known is None:
            return None
        now = time.perf_counter()
        if now < known.renew_at:
            return known
        if now >= known.end:
            self._known.pop(key, None)
            return None
        known.renew_at = known.end  # the others need not go, too
        return None

    def is_quick(self, asked: Asked, body: bytes) -> bool:
        """Whether a request may be answered on the event loop."""
        if asked.known is None or asked.size > QUICK_BYTES:
            return False
        if asked.known.endpoint == PREDICT:
            rows = body.count(b"{") + body.count(b"[")
        else:
            rows = asked.size // asked.known.columns
        return rows <= asked.known.quick_rows

    def answer(self, asked: Asked, body: bytes) -> Found | None:
        """Return the answer to a request, or None for Flask to give it, or to say what is wrong."""
        if (found := self._remembered(asked)) is None:
            return None
        known, model = found
        try:
            values, finish = _read(asked, known, model, body)
            return finish(None if values is None else model.predict_numbers(values))
        except Exception:  # noqa: BLE001 - Flask says what is wrong
            return None

    async def answer_among_others(self, asked: Asked, body: bytes) -> Found | None:
        """Return what `answer` does; rows are predicted with those of other requests."""
        if (found := self._remembered(asked)) is None:
            return None
        known, model = found
        try:
            values, finish = _read(asked, known, model, body)
            y = None if values is None else await self._together.predict(model, values)
            return finish(y)
        except Exception:  # noqa: BLE001 - Flask says what is wrong
            return None

    def _remembered(self, asked: Asked) -> tuple[Known, Model] | None:
        """Return what is remembered by now, which may be over since the request began."""
        known = self._known.get(asked.key)
        if known is None or time.perf_counter() >= known.end:
            return None
        model = self._predictor.kept(known.named.id)
        return None if model is None else (known, model)

    def forget(self) -> None:
        """Forget everything, for something was changed."""
        with self._lock:
            self._turn += 1
            self._known.clear()

    def install(self, app: Flask) -> None:
        """Have what Flask answers be remembered, and forgotten when something changes."""

        @app.after_request
        def look(response: Response) -> Response:
            asked: Asked | None = request.environ.get(ASKED)
            if request.endpoint in ENDPOINTS:
                if asked is not None:
                    self._remember(asked, response.status_code)
            elif request.blueprint in CHANGING and request.method not in gate.SAFE:
                self.forget()
            return response

    def _remember(self, asked: Asked, status: int) -> None:
        """Remember what Flask found out, if nothing was changed meanwhile."""
        if status != 200:
            if status in GONE:
                self._known.pop(asked.key, None)
            return
        model_id, version = g.answered_by
        model = self._predictor.kept(model_id)
        if model is None:  # it is larger than what is kept
            return
        multiply_adds = model.network.architecture.multiply_adds(learns=False)
        known = Known(
            endpoint=str(request.endpoint),
            path=gate.shown_path(),
            named=Named((request.view_args or {})["model_id"], version, model_id),
            columns=len(model.inputs),
            quick_rows=QUICK_MULTIPLY_ADDS // max(multiply_adds, 1),
            renew_at=asked.begun + RENEWED_SECONDS,
            end=asked.begun + REMEMBERED_SECONDS,
        )
        with self._lock:
            if asked.turn != self._turn:
                return
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[asked.key] = known


def _address(scope: Mapping[str, Any], headers: Headers) -> MutableMapping[str, Any]:
    """Return of an environment what tells where a request comes from."""
    client, _ = scope.get("client") or ("", 0)
    forwarded = headers.get(b"x-forwarded-for", b"").decode("latin-1")
    return {"REMOTE_ADDR": str(client), "HTTP_X_FORWARDED_FOR": forwarded}


def _read(asked: Asked, known: Known, model: Model, body: bytes) -> tuple[Numbers | None, Finish]:
    """Read what is asked; raises whatever is wrong, or unusual, about it.

    Returns
    -------
    values : Numbers or None
        Rows that are nothing but numbers.
    finish : callable
        Makes the answer of what is predicted for them; for rows of any other kind, of None.
    """
    read = _read_rows if known.endpoint == PREDICT else _read_tensors
    values, answer = read(known.named, model, asked.headers, body)

    def finish(y: Matrix | None) -> Found:
        said, headers = answer(y)
        request_id = gate.id_of(asked.headers.get(b"x-request-id", b"").decode("latin-1"))
        headers += (b"content-length", b"%d" % len(said)), (b"x-request-id", request_id.encode())
        headers += LASTING
        gate.say("POST", known.path, 200, asked.begun, request_id)
        return Found({"type": "http.response.start", "status": 200, "headers": headers}, said)

    return values, finish


def _read_rows(
    named: Named, model: Model, headers: Headers, body: bytes
) -> tuple[Numbers | None, Answering]:
    """Read rows."""
    if headers[b"content-type"] != b"application/json":
        raise ValueError("it is for Flask to look at the type")
    names = model.number_names
    values = None
    if names is not None:
        values = parsing.rows_of(body, "instances", len(names), tables.ROWS_AT_ONCE)

    def answer(y: Matrix | None) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        if y is None:
            y = models.predict_rows(model, _instances(body))
        said = tables.written(Served(named.id, model), y, USUAL)
        return said, [(b"content-type", b"application/json")]

    return values, answer


def _instances(body: bytes) -> list[Any]:
    """Return rows of any kind."""
    asked = read_quickly(body)
    [instances] = asked.values()
    if asked.keys() != {"instances"} or not 0 < len(instances) <= tables.ROWS_AT_ONCE:
        raise ValueError("more, or less, than instances")
    if not isinstance(instances, list):
        raise TypeError("instances are an array")
    return instances


def _read_tensors(
    named: Named, model: Model, headers: Headers, body: bytes
) -> tuple[Numbers | None, Answering]:
    """Read tensors."""
    sent = headers.get(HEADER)
    if sent is None and (apart := parsing.data_apart(body)) is not None:
        body, sent = apart[0], b"%d" % apart[1]
    asked = inference.read(
        model, body, None if sent is None else sent.decode("latin-1"), _read_inference
    )
    accepted = headers.get(b"accept-encoding", b"").decode("latin-1")

    def answer(y: Matrix | None) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        if y is None:
            y = inference.predict(model, asked.inputs)
        said, about = inference.answer_tensors(model, y, asked, named, accepted)
        return said, [(name.lower().encode(), value.encode()) for name, value in about.items()]

    return inference.numbers_of(model, asked.inputs), answer


def _read_inference(data: bytes) -> Any:
    """Read a request for inference that has no fields but those that are known."""
    asked = read_quickly(data)
    tensors = [*asked["inputs"], *(asked.get("outputs") or ())]
    if not (asked.keys() <= INFERENCE_FIELDS and all(t.keys() <= TENSOR_FIELDS for t in tensors)):
        raise ValueError("there are fields that nobody knows")
    return asked
