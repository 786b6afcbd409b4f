"""Reception: takes each request whole, before a thread is spent on it.

A WSGI server gives a thread to whoever has sent the first line, and the thread
then waits for the rest: as many slow senders as there are threads, and nobody
else is served. Here bodies come in on the event loop, counted, until a deadline:
into memory where the short way may answer them, else into a spool. One that
breaks off is refused, however it was announced.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import unquote_to_bytes

from flask import Flask
from werkzeug.exceptions import ClientDisconnected, HTTPException, RequestTimeout

from app.api import bodies
from app.api.bodies import REFUSAL
from app.api.hot import ASKED, Asked, Found, HotPath, Key
from app.api.login import Login
from app.config import Settings
from app.ending import Ending
from app.store.database import UNAVAILABLE

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Came = list[Message | None]
"""Messages; None where the next did not come in time."""

Environ = dict[str, Any]
T = TypeVar("T")

FREE_BYTES = 1 << 16
"""So much of a body is received, in memory, whoever sends it and whatever else there is."""

KNOWN_BYTES = 1 << 22
"""The same of one whose key was good a moment ago and who asks a model that is known."""

HELD_BYTES = 1 << 26
"""What the bodies of all of these have in memory together; those beyond it go to disk."""

AHEAD_SECONDS = 1.0
"""How long others wait for the first who asks the same."""

IDLE_SECONDS = 20
"""How long nothing may come of a body."""

WHOLE_BYTES = 1 << 20
"""An answer of up to so many bytes is handed over at once, a longer one in pieces."""


class Reception:
    """An ASGI application that receives requests and has a WSGI application answer them.

    Parameters
    ----------
    app : Flask
    settings : Settings
    login : Login
    hot : HotPath
        Answers what it can before the WSGI application is asked.
    scratch : Path
        Where bodies are spooled that are not small.
    ending : Ending
        Begins to listen when the server has begun.
    """

    def __init__(
        self,
        app: Flask,
        settings: Settings,
        login: Login,
        hot: HotPath,
        scratch: Path,
        ending: Ending,
    ) -> None:
        self._app, self._settings, self._login, self._hot = app, settings, login, hot
        self._scratch, self._ending = scratch, ending
        self._threads = ThreadPoolExecutor(settings.api_threads, thread_name_prefix="request")
        # What only computes is answered in turn: more threads than cores would all end late.
        self._computing = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="computing")
        self._ahead: dict[Key, asyncio.Event] = {}
        self._held_bytes = self._held_bodies = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request, or the life of the process."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            asked = self._hot.asked(scope)
            if asked is None or asked.known is None or asked.size > KNOWN_BYTES:
                await self._serve(scope, asked, receive, send)
            elif came := await self._serve_at_once(asked, receive, send):
                await self._serve(scope, asked, _again(came, receive), send)

    async def _live(self, receive: Receive, send: Send) -> None:
        self._ending.listen()
        while (event := (await receive())["type"]) != "lifespan.shutdown":
            await send({"type": f"{event}.complete"})
        self._threads.shutdown()
        self._computing.shutdown()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve_at_once(self, asked: Asked, receive: Receive, send: Send) -> Came:
        """Answer the short way; else return what came."""
        self._held_bodies += 1
        body = b""
        try:
            body, came = await self._held(asked.size, receive)
            if len(body) != asked.size or (found := await self._compute(asked, body)) is None:
                return came
        finally:
            self._held_bodies -= 1
            self._held_bytes -= len(body)
        await send(found.start)
        await send({"type": "http.response.body", "body": found.body})
        return []

    async def _held(self, size: int, receive: Receive) -> tuple[bytes, Came]:
        """Receive a body in memory, and count it; return also what came, in as few messages."""
        clock, body, more = asyncio.get_running_loop().time, bytearray(), True
        end, ended = clock() + self._settings.body_seconds, Came()
        try:
            while more and len(body) < size and self._has_room(len(body)):
                try:
                    async with asyncio.timeout(min(IDLE_SECONDS, end - clock())):
                        message = await receive()
                except TimeoutError:
                    ended.append(None)
                    break
                if message["type"] == "http.disconnect":
                    ended.append(message)
                    break
                body += message.get("body", b"")
                more = message.get("more_body", False)
                self._held_bytes += len(message.get("body", b""))
        except BaseException:
            self._held_bytes -= len(body)
            raise
        held = bytes(body)
        return held, [{"type": "http.request", "body": held, "more_body": more}, *ended]

    def _has_room(self, size: int) -> bool:
        """Whether a body of which there is so much may have more in memory."""
        return size < FREE_BYTES or self._held_bytes < HELD_BYTES

    async def _compute(self, asked: Asked, body: bytes) -> Found | None:
        """Answer the short way, in a thread if it takes long, if Flask need not answer."""
        if self._hot.is_quick(asked, body):
            if self._held_bodies == 1:  # nobody to wait for
                return self._hot.answer(asked, body)
            return await self._hot.answer_among_others(asked, body)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._computing, self._hot.answer, asked, body)

    async def _serve(
        self, scope: Message, asked: Asked | None, receive: Receive, send: Send
    ) -> None:
        environ = _environ(scope)
        with tempfile.SpooledTemporaryFile(FREE_BYTES, dir=str(self._scratch)) as spool:
            if "HTTP_TRANSFER_ENCODING" in environ or environ.get("CONTENT_LENGTH", "0") != "0":
                try:
                    await self._receive(environ, receive, spool)
                except HTTPException as refusal:
                    environ[REFUSAL] = refusal
            spool.seek(0)
            environ["wsgi.input"] = spool
            answer = Answer(self._app, environ, asked, receive, send)
            if asked is None or asked.known is not None or REFUSAL in environ:
                start, body = await self._in_thread(answer.work)
            else:
                start, body = await self._work_in_turn(answer, asked, scope, spool)
        if start is not None:
            await send(start)
        await send({"type": "http.response.body", "body": body})

    async def _work_in_turn(
        self, answer: Answer, asked: Asked, scope: Message, spool: IO[bytes]
    ) -> tuple[Message | None, bytes]:
        """Go ahead of all who ask the same, or wait for who did, and know what was found out."""
        if (ahead := self._ahead.get(asked.key)) is None:
            ahead = self._ahead[asked.key] = asyncio.Event()
            answer.when_begun(partial(self._let_go_on, asked.key, ahead))
            try:
                return await self._in_thread(answer.work)
            finally:
                self._let_go_on(asked.key, ahead)
        with suppress(TimeoutError):
            async with asyncio.timeout(AHEAD_SECONDS):
                await ahead.wait()
        answer.asked = again = self._hot.asked(scope)
        if again is not None and again.known is not None and again.size <= KNOWN_BYTES:
            again = again._replace(begun=asked.begun)
            if (found := await self._compute_spooled(again, spool)) is not None:
                return found
        return await self._in_thread(answer.work)

    def _let_go_on(self, key: Key, ahead: asyncio.Event) -> None:
        ahead.set()
        if self._ahead.get(key) is ahead:
            del self._ahead[key]

    async def _compute_spooled(self, asked: Asked, spool: IO[bytes]) -> Found | None:
        """Answer a body that was received the short way, if it is whole and there is room."""
        if not self._has_room(asked.size):
            return None
        self._held_bytes += asked.size
        try:
            body = spool.read()
            return await self._compute(asked, body) if len(body) == asked.size else None
        finally:
            self._held_bytes -= asked.size
            spool.seek(0)

    async def _receive(self, environ: Environ, receive: Receive, spool: IO[bytes]) -> None:
        """Receive the body of a request that leads somewhere."""
        endpoint = self._endpoint(environ)
        if endpoint is None:
            return
        limit = bodies.limit(endpoint, self._settings)
        if environ.get("CONTENT_LENGTH", "").isdecimal():
            bodies.check_size(int(environ["CONTENT_LENGTH"]), limit)
        size, is_admitted = 0, False
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                while True:
                    async with asyncio.timeout(IDLE_SECONDS):
                        message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnected(f"the body broke off after {size:,} bytes")
                    size += len(message.get("body", b""))
                    bodies.check_size(size, limit)
                    if size > FREE_BYTES and not is_admitted:
                        if not await self._in_thread(lambda: self._admits(environ)):
                            return
                        is_admitted = True
                    spool.write(message.get("body", b""))
                    if not message.get("more_body"):
                        break
        except TimeoutError as error:
            most = (
                f"all of it within {self._settings.body_seconds:g} s, some every {IDLE_SECONDS} s"
            )
            raise RequestTimeout(f"the body comes too slowly: send {most}") from error
        environ["CONTENT_LENGTH"] = str(size)
        environ.pop("HTTP_TRANSFER_ENCODING", None)

    def _endpoint(self, environ: Environ) -> str | None:
        """Return where a request leads; whatever leads nowhere is refused without its body."""
        try:
            endpoint, _ = self._app.url_map.bind_to_environ(environ).match()
        except HTTPException:
            return None
        return str(endpoint)

    def _admits(self, environ: Environ) -> bool:
        """Whether the caller may send more; if not, or if nobody can tell now, the gate says so."""
        try:
            self._login.admit(environ)
        except (HTTPException, *UNAVAILABLE):
            return False
        return True

    async def _in_thread(self, act: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, act)


class Answer:
    """The answer to a request, from a thread to the event loop.

    Parameters
    ----------
    app : Flask
    environ : dict
    asked : Asked or None
        What is remembered of it.
    receive, send : callable
        Of the request.
    """

    def __init__(
        self, app: Flask, environ: Environ, asked: Asked | None, receive: Receive, send: Send
    ) -> None:
        self._app, self._environ, self.asked = app, environ, asked
        self._loop, self._receive, self._send = asyncio.get_running_loop(), receive, send
        self._start: Message = {}
        self._begun: Callable[[], None] | None = None

    def when_begun(self, act: Callable[[], None]) -> None:
        """Have the event loop do something once the application begins to answer."""
        self._begun = act

    def work(self) -> tuple[Message | None, bytes]:
        """Return the answer's start and body; of what was sent already, None and nothing."""
        self._environ[ASKED] = self.asked
        pieces = self._app(self._environ, self._begin)
        try:
            length = dict(self._start["headers"]).get(b"content-length", b"")
            if self._environ["REQUEST_METHOD"] == "HEAD" or (
                length.isdigit() and int(length) <= WHOLE_BYTES
            ):
                return self._start, b"".join(pieces)
            self._stream(pieces)
            return None, b""
        finally:
            if hasattr(pieces, "close"):
                pieces.close()

    def _begin(self, status: str, headers: list[tuple[str, str]], *_: Any) -> Callable[..., None]:
        """Take what WSGI calls ``start_response``."""
        if self._begun is not None:
            self._loop.call_soon_threadsafe(self._begun)
        self._start = {
            "type": "http.response.start",
            "status": int(status[:3]),
            "headers": [
                (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers
            ],
        }
        return _write

    def _stream(self, pieces: Iterable[bytes]) -> None:
        """Send each piece when the one before is on its way, until the caller is gone."""
        gone = asyncio.run_coroutine_threadsafe(_until_gone(self._receive), self._loop)
        try:
            self._hand_over(self._start)
            for piece in pieces:
                if gone.done():
                    break
                self._hand_over({"type": "http.response.body", "body": piece, "more_body": True})
        finally:
            gone.cancel()

    def _hand_over(self, message: Message) -> None:
        asyncio.run_coroutine_threadsafe(self._deliver(message), self._loop).result()

    async def _deliver(self, message: Message) -> None:
        await self._send(message)


def _again(came: Came, receive: Receive) -> Receive:
    """Return what receives messages once more before others, and keeps none of them."""

    async def again() -> Message:
        if not came:
            return await receive()
        if (message := came.pop(0)) is None:
            raise TimeoutError
        return message

    return again


def _write(_data: bytes) -> None:
    raise NotImplementedError("answers are iterated over")


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _environ(scope: Message) -> Environ:
    """Return a request in the words of WSGI."""
    host, port = scope.get("server") or ("localhost", 80)
    client, client_port = scope.get("client") or ("", 0)
    environ: Environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": str(host),
        "SERVER_PORT": str(port),
        "REMOTE_ADDR": str(client),
        "REMOTE_PORT": str(client_port),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in scope["headers"]:
        words = name.decode("latin-1").upper().replace("-", "_")
        key = words if words in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{words}"
        text = value.decode("latin-1")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    return environ
