"""The short way answers as Flask does, to the byte, and nothing that Flask would refuse."""

from __future__ import annotations

import asyncio
import json
import struct

import pytest

from app.api import hot as hot_module
from app.api.hot import HotPath
from app.api.reception import Reception
from app.ending import Ending
from tests.app.api.callers import KEYS, Caller, parts

ROW = [5.1, 3.5, 1.4, 0.2]
NAMED = dict(zip(["sepal_length", "sepal_width", "petal_length", "petal_width"], ROW, strict=True))
KEY = f"Bearer {KEYS['ada']}"
OWN = {b"x-request-id", b"idempotent-replayed"}


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
        answer = self.hot.answer

        def count(asked, body):
            found = answer(asked, body)
            self.answered += found is not None
            return found

        self.hot.answer = count

    def __call__(self, path, body, method="POST", cuts=(), **headers):
        sent = {"host": "localhost", "authorization": KEY, "content-type": "application/json"}
        sent |= {"content-length": str(len(body))}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "http_version": "1.1",
            "client": ("127.0.0.1", 5),
            "headers": [(n.encode(), v.encode()) for n, v in sent.items() if v is not None],
        }
        starts = [0, *cuts, len(body)]
        pieces = [body[a:b] for a, b in zip(starts, starts[1:], strict=False)]
        messages = [{"type": "http.request", "body": p, "more_body": True} for p in pieces]
        messages[-1]["more_body"] = False
        answered = []

        async def receive():
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message):
            answered.append(message)

        async def ask():
            await self.reception(scope, receive, send)

        asyncio.run(ask())
        start, *parts_of = answered
        body = b"".join(part["body"] for part in parts_of)
        told = sorted(pair for pair in start["headers"] if pair[0] not in OWN)
        return start["status"], told, body

    def both(self, path, body, **headers):
        """Ask Flask, and then again when all is remembered; return the answer and if it was hot."""
        plain = json.dumps({"instances": [ROW]}).encode()
        if "/infer" in path:
            tensor = {"name": "input", "shape": [1, 4], "datatype": "FP32", "data": ROW}
            plain = json.dumps({"inputs": [tensor]}).encode()
        self.hot.forget()
        by_flask = self(path, body, **headers)
        assert self(path, plain)[0] == 200
        before = self.answered
        again = self(path, body, **headers)
        was_hot = self.answered > before
        expected, got = _masked(by_flask), _masked(again)
        assert got == expected
        if was_hot:
            assert again[0] == 200
        return again[0], was_hot


def _masked(answer):
    """An answer without the id of the request, which is in problems as well."""
    status, headers, body = answer
    if status != 200 and body.startswith(b"{"):
        said = json.loads(body)
        said.pop("request_id", None)
        headers = [pair for pair in headers if pair[0] != b"content-length"]
        body = said
    return status, headers, body


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """Remember for so long that a slow machine forgets nothing."""
    monkeypatch.setattr(hot_module, "REMEMBERED_SECONDS", 600)
    monkeypatch.setattr(hot_module, "RENEWED_SECONDS", 300)


@pytest.fixture
def ask(library):
    kept = library.app.after_request_funcs[None][:]
    yield Asker(library.app)
    library.app.after_request_funcs[None] = kept


def rows(*instances, **more):
    return json.dumps({"instances": list(instances), **more}).encode()


BODIES = {
    "one row": rows(ROW),
    "by name": rows(NAMED),
    "mixed": rows(NAMED, ROW),
    "whole numbers": rows([5, 3, 1, 0]),
    "minus nothing": b'{"instances": [[-0, -0.0, 0, 0.0]]}',
    "large numbers": rows([2**63, 2**64, 2**70, 1e300]),
    "spaces": b' { "instances" : [ [ 1 , 2 , 3 , 4 ] ] } ',
    "exponents": b'{"instances": [[1e-400, 1E2, 1e+2, 0.1e1]]}',
    "missing": rows([None, 1, 2, 3]),
    "missing by name": rows({"sepal_length": 1}),
    "many": rows(*[[n / 7, n / 9, n, 1] for n in range(300)]),
    "escaped name": b'{"\\u0069nstances": [[1, 2, 3, 4]]}',
    "too large": rows([1.75e308, 1, 2, 3]),
    "infinite": b'{"instances": [[1e400, 1, 2, 3]]}',
    "digits": b'{"instances": [[' + b"9" * 4400 + b", 1, 2, 3]]}",
    "nan": b'{"instances": [[NaN, 1, 2, 3]]}',
    "truth": rows([True, 1, 2, 3]),
    "text": rows(["1", 1, 2, 3]),
    "short": rows([1, 2, 3]),
    "long": rows([1, 2, 3, 4, 5]),
    "one of two short": rows(ROW, [1, 2, 3]),
    "nested": rows([[1, 2, 3, 4]]),
    "scalar": rows(5),
    "none": rows(),
    "null": b'{"instances": null}',
    "an object": b'{"instances": {"a": 1}}',
    "text for rows": b'{"instances": "abcd"}',
    "unknown name": rows({**NAMED, "colour": 1}),
    "unknown field": rows(ROW, top=1),
    "no field": b"{}",
    "twice": b'{"instances": [[1, 2, 3, 4]], "instances": [[5, 6, 7, 8]]}',
    "twice, escaped": b'{"instances": [[1, 2, 3, 4]], "\\u0069nstances": [[5, 6, 7, 8]]}',
    "twice in a row": (
        b'{"instances": [{"sepal_length": 1, "sepal_length": 2, "sepal_width": 1,'
        b' "petal_length": 1, "petal_width": 1}]}'
    ),
    "twice in a later row": (
        b'{"instances": [[1, 2, 3, 4], {"sepal_length": 1, "sepal_length": 2, "sepal_width": 1,'
        b' "petal_length": 1, "petal_width": 1}]}'
    ),
    "surrogate": b'{"instances": [{"\\ud800": 1}]}',
    "not UTF-8": b'{"instances": [["\xff", 1, 2, 3]]}',
    "byte order mark": b"\xef\xbb\xbf" + rows(ROW),
    "cut": rows(ROW)[:-3],
    "trailing": rows(ROW) + b"x",
    "array": b"[[1, 2, 3, 4]]",
    "deep": b'{"instances": ' + b"[" * 900 + b"]" * 900 + b"}",
    "comments": b'{"instances": [[1, 2, 3, 4]] /* */}',
    "leading zero": b'{"instances": [[01, 2, 3, 4]]}',
}
HOT = {"one row", "by name", "mixed", "whole numbers", "minus nothing", "large numbers", "spaces"}
HOT |= {"exponents", "missing", "missing by name", "many", "escaped name"}


@pytest.mark.parametrize("name", BODIES)
def test_rows_are_answered_alike(ask, iris_model, name):
    status, was_hot = ask.both(f"/v1/models/{iris_model}/predict", BODIES[name])
    assert was_hot == (name in HOT), status
    assert (status == 200) == (name in HOT)


HEADERS = {
    "idempotency_key": "once",
    "content_encoding": "gzip",
    "content_type": "text/plain",
    "accept": "text/csv",
    "origin": "http://elsewhere",
    "if_match": '"x"',
    "host": "elsewhere.example",
    "authorization": "Bearer wrong",
    "expect": "100-continue",
    "cookie": "a=b",
}


@pytest.mark.parametrize("name", HEADERS)
def test_what_is_unusual_about_a_request_is_left_to_flask(ask, iris_model, name):
    _, was_hot = ask.both(f"/v1/models/{iris_model}/predict", rows(ROW), **{name: HEADERS[name]})
    assert not was_hot


def test_so_are_other_addresses_and_calls(ask, iris_model):
    path = f"/v1/models/{iris_model}/predict"
    for other in (f"{path}?a=1", f"/{path}", f"{path}/", path.replace("mdl", "%6ddl")):
        ask.hot.forget()
        ask(path, rows(ROW))
        before = ask.answered
        ask(other, rows(ROW))
        assert ask.answered == before
    ask(path, b"", method="GET")
    ask(path, rows(ROW), authorization=None)
    assert ask.answered == before
    ask(path, rows(ROW))
    assert ask.answered == before + 1


def tensor(data, shape, datatype="FP32", **more):
    return {"name": "input", "shape": shape, "datatype": datatype, "data": data, **more}


def inference(*inputs, **more):
    return json.dumps({"inputs": list(inputs), **more}).encode()


SHARES = [{"name": "probabilities"}]
TENSORS = {
    "one row": (inference(tensor(ROW, [1, 4])), True),
    "nested": (inference(tensor([ROW, ROW], [2, 4])), True),
    "id, outputs": (inference(tensor(ROW, [1, 4]), id="a", outputs=SHARES), True),
    "binary answer": (
        inference(tensor(ROW, [1, 4]), parameters={"binary_data_output": True}),
        True,
    ),
    "many": (inference(tensor([1.5] * 400, [100, 4])), True),
    "columns": (
        inference(*[tensor([n], [1]) | {"name": n2} for n, n2 in zip(ROW, NAMED, strict=True)]),
        True,
    ),
    "null": (inference(tensor([None, 1, 2, 3], [1, 4])), True),
    "unknown field": (inference(tensor(ROW, [1, 4]), more=1), False),
    "unknown output": (inference(tensor(ROW, [1, 4]), outputs=[{"name": "x"}]), False),
    "shape": (inference(tensor(ROW, [4, 1])), False),
    "no rows": (inference(tensor([], [0, 4])), False),
    "too few": (inference(tensor(ROW[:3], [1, 4])), False),
    "text": (inference(tensor(["a"] * 4, [1, 4])), False),
    "twice": (inference(tensor(ROW, [1, 4]), tensor(ROW, [1, 4])), False),
    "name twice": (inference(tensor(ROW, [1, 4]))[:-1] + b', "inputs": []}', False),
    "type": (inference(tensor(ROW, [1, 4], "FP128")), False),
    "huge": (inference(tensor([2**1100, 1, 2, 3], [1, 4])), False),
    "no inputs": (b"{}", False),
    "array": (b"[]", False),
}


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("suffix", ["", "/versions/1"])
def test_tensors_are_answered_alike(ask, iris_model, name, suffix):
    body, expected = TENSORS[name]
    status, was_hot = ask.both(f"/v2/models/{iris_model}{suffix}/infer", body)
    assert was_hot == expected, status


def test_binary_data_is_answered_alike_and_packed_for_whom_takes_it_so(ask, iris_model):
    path = f"/v2/models/{iris_model}/infer"
    data = struct.pack("<4f", *ROW) * 50
    said = {"name": "input", "shape": [50, 4], "datatype": "FP32"}
    for size in (len(data), len(data) - 4):
        head = json.dumps({"inputs": [said | {"parameters": {"binary_data_size": size}}]}).encode()
        length = {"inference_header_content_length": str(len(head))}
        for accepted in ("gzip, deflate", "identity", "gzip;q=0"):
            _, was_hot = ask.both(path, head + data, accept_encoding=accepted, **length)
            assert was_hot == (size == len(data))
    for length in ("0", "-1", "9" * 30, "x"):
        _, was_hot = ask.both(path, data, inference_header_content_length=length)
        assert was_hot == (length == "0")


def test_columns_of_every_kind_are_answered_alike(ask, price_model):
    good = {"size": 3.0, "count": 4, "fresh": True, "colour": "red"}
    path = f"/v1/models/{price_model}/predict"
    ask(path, rows(good))
    for instance in (good, good | {"fresh": 1}, good | {"size": True}, good | {"colour": 4}):
        answer = ask(path, rows(instance))
        ask.hot.forget()
        assert _masked(ask(path, rows(instance))) == _masked(answer)
        ask(path, rows(good))


def test_a_body_may_come_in_pieces_and_large_ones_are_answered_in_a_thread(ask, iris_model):
    path = f"/v1/models/{iris_model}/predict"
    ask(path, rows(ROW))
    assert ask(path, rows(ROW), cuts=(5, 9)) == ask(path, rows(ROW))
    before = ask.answered
    large = rows(*[[value + 1e-9 for value in ROW]] * 1000)
    assert len(large) > hot_module.INLINE_BYTES
    answer = ask(path, large, cuts=(40_000,))
    assert ask.answered == before + 1
    ask.hot.forget()
    assert ask(path, large) == answer


@pytest.fixture
def mine(ada):
    """A model of a test's own, by its name."""
    models = [ada.model(ada.dataset(), training={"epochs": n}) for n in (1, 2)]
    assert ada.call("PUT", "/v1/names/flowers", json={"model": models[0]}).status_code < 300
    return Asker(ada.app), models


def test_what_changes_in_this_process_takes_effect_at_once(ada, mine):
    ask, (first, second) = mine
    path = "/v1/models/flowers/predict"
    for model in (first, second, first):
        ada.call("PUT", "/v1/names/flowers", json={"model": model})
        answers = [json.loads(ask(path, rows(ROW))[2]) for _ in range(2)]
        assert answers[0] == answers[1]
        assert answers[0]["model"] == model
    assert ask.answered == 3
    versions = [json.loads(ask("/v2/models/flowers/infer", inference(tensor(ROW, [1, 4])))[2])]
    assert versions[0]["model_version"] == "3"
    ask(f"/v1/models/{second}/predict", rows(ROW))
    assert ada.delete(f"/v1/models/{second}").status_code == 204
    assert ask(f"/v1/models/{second}/predict", rows(ROW))[0] == 404


def test_what_changes_elsewhere_takes_effect_when_the_memory_ends(mine, make_app, monkeypatch):
    ask, (_, second) = mine
    path, elsewhere = f"/v1/models/{second}/predict", Caller(make_app(), KEYS["ada"])
    ask(path, rows(ROW))
    assert elsewhere.delete(f"/v1/models/{second}").status_code == 204
    assert ask(path, rows(ROW))[0] == 200
    now = hot_module.time.perf_counter()
    monkeypatch.setattr(hot_module.time, "perf_counter", lambda: now + 601)
    assert ask(path, rows(ROW))[0] == 404


def test_half_way_one_request_renews_what_is_remembered_and_the_others_go_on(mine, monkeypatch):
    ask, (first, _) = mine
    path, clock = f"/v1/models/{first}/predict", hot_module.time.perf_counter
    ask(path, rows(ROW))
    monkeypatch.setattr(hot_module.time, "perf_counter", lambda: clock() + 301)
    renew = {"raw_path": path.encode(), "method": "POST", "query_string": b""}
    sent = {"host": "localhost", "authorization": KEY, "content-length": "5"}
    renew["headers"] = [(name.encode(), value.encode()) for name, value in sent.items()]
    assert [ask.hot.asked(renew).known is None for _ in range(3)] == [True, False, False]


def test_where_requests_are_counted_every_one_is(ada, mine):
    _, (first, _) = mine
    ask = Asker(ada.app, owner_requests_per_minute=100)
    for _ in range(3):
        assert ask(f"/v1/models/{first}/predict", rows(ROW))[0] == 200
    assert ask.answered == 0


def test_an_address_that_is_not_listened_to_is_not_answered(make_app, mine):
    _, (first, _) = mine
    app = make_app(failed_logins_per_minute=1)
    ask, path = Asker(app), f"/v1/models/{first}/predict"
    assert [ask(path, rows(ROW))[0] for _ in range(2)] == [200, 200]
    statuses = [ask(path, rows(ROW), authorization="Bearer wrong")[0] for _ in range(2)]
    assert statuses == [401, 429]
    assert ask(path, rows(ROW))[0] == 429
