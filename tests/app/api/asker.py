"""Asks over ASGI, where the short way comes before Flask."""

from __future__ import annotations

import asyncio
import json

from app.api import hot as hot_module
from app.api.hot import HotPath
from app.api.reception import Reception
from app.ending import Ending
from tests.app.api.callers import KEYS, parts

ROW = [5.1, 3.5, 1.4, 0.2]
NAMED = dict(zip(["sepal_length", "sepal_width", "petal_length", "petal_width"], ROW, strict=True))
KEY = f"Bearer {KEYS['ada']}"
OWN = {b"x-request-id", b"idempotent-replayed"}


def rows(*instances, **more):
    return json.dumps({"instances": list(instances), **more}).encode()


def tensor(data, shape, datatype="FP32", **more):
    return {"name": "input", "shape": shape, "datatype": datatype, "data": data, **more}


def inference(*inputs, **more):
    return json.dumps({"inputs": list(inputs), **more}).encode()


class Asker:
    """Asks over ASGI, and counts what the short way answered."""

    def __init__(self, app, **changes):
        services = parts(app)
        settings = services.settings.model_copy(update=changes)
        self.hot = HotPath(settings, services.login, services.predictor)
        app._got_first_request = False  # other tests have asked it before
        hooks = app.after_request_funcs[None]
        hooks[:] = [hook for hook in hooks if hook.__module__ != hot_module.__name__]
        self.hot.install(app)
        arguments = (settings, services.login, self.hot, services.scratch, Ending())
        self.reception, self.answered, self.app = Reception(app, *arguments), 0, app
        answer, among_others = self.hot.answer, self.hot.answer_among_others

        def count(found):
            self.answered += found is not None
            return found

        async def count_among_others(asked, body):
            return count(await among_others(asked, body))

        self.hot.answer = lambda asked, body: count(answer(asked, body))
        self.hot.answer_among_others = count_among_others

    def scope(self, path, body, method="POST", **headers):
        """What ASGI says of a request before its body."""
        sent = {"host": "localhost", "authorization": KEY, "content-type": "application/json"}
        sent |= {"content-length": str(len(body))}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        path, _, query = path.partition("?")
        return {
            "type": "http",
            "method": method,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "http_version": "1.1",
            "client": ("127.0.0.1", 5),
            "headers": [(n.encode(), v.encode()) for n, v in sent.items() if v is not None],
        }

    def __call__(self, path, body, method="POST", **more):
        return asyncio.run(self.ask(path, body, method, **more))

    def at_once(self, path, *bodies, **more):
        """Ask several times at once; return the answers."""

        async def ask():
            return await asyncio.gather(*(self.ask(path, body, **more) for body in bodies))

        return asyncio.run(ask())

    async def ask(
        self, path, body, method="POST", cuts=(), breaks_off=False, meanwhile=None, **headers
    ):
        """Ask; ``meanwhile`` is called before the last piece, ``breaks_off`` leaves it out."""
        scope = self.scope(path, body, method, **headers)
        starts = [0, *cuts, len(body)]
        pieces = [body[a:b] for a, b in zip(starts, starts[1:], strict=False)]
        messages = [{"type": "http.request", "body": p, "more_body": True} for p in pieces]
        messages[-1]["more_body"] = False
        if breaks_off:
            messages.pop()
        answered = []

        async def receive():
            if meanwhile is not None and len(messages) == 1:
                meanwhile()
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message):
            answered.append(message)

        await self.reception(scope, receive, send)
        start, *parts_of = answered
        body = b"".join(part["body"] for part in parts_of)
        told = sorted(pair for pair in start["headers"] if pair[0] not in OWN)
        return start["status"], told, body

    def both(self, path, body, **headers):
        """Ask Flask, and then again when all is remembered; return the answer and if it was hot."""
        plain = inference(tensor(ROW, [1, 4])) if "/infer" in path else rows(ROW)
        self.hot.forget()
        by_flask = self(path, body, **headers)
        assert self(path, plain)[0] == 200
        before = self.answered
        again = self(path, body, **headers)
        was_hot = self.answered > before
        expected, got = masked(by_flask), masked(again)
        assert got == expected
        if was_hot:
            assert again[0] == 200
        return again[0], was_hot


def masked(answer):
    """An answer without the id of the request, which is in problems as well."""
    status, headers, body = answer
    if status != 200 and body.startswith(b"{"):
        said = json.loads(body)
        said.pop("request_id", None)
        headers = [pair for pair in headers if pair[0] != b"content-length"]
        body = said
    return status, headers, body
