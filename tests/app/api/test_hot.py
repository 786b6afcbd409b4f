"""The short way answers as Flask does, to the byte, and nothing that Flask would refuse."""

from __future__ import annotations

import io
import json
import struct

import pyarrow as pa
import pytest

from app.api import hot as hot_module
from app.api import parsing, reception
from tests.app.api.asker import NAMED, ROW, Asker, inference, masked, rows, tensor
from tests.app.api.callers import csv


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


BODIES = {
    "one row": rows(ROW),
    "by name": rows(NAMED),
    "mixed": rows(NAMED, ROW),
    "whole numbers": rows([5, 3, 1, 0]),
    "minus nothing": b'{"instances": [[-0, -0.0, 0, 0.0]]}',
    "large numbers": rows([2**63, 2**64, 2**70, 1e300]),
    "a very large number": rows([2**70, 1, 2, 3]),
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
HOT |= {"a very large number"}
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


def arrow(kind):
    written, table = io.BytesIO(), pa.table({name: [value] for name, value in NAMED.items()})
    with getattr(pa.ipc, f"new_{kind}")(written, table.schema) as writer:
        writer.write_table(table)
    return written.getvalue()


TABLES = {
    "text/csv": csv(",".join(NAMED), ",".join(map(str, ROW))),
    "application/vnd.apache.arrow.stream": arrow("stream"),
    "application/vnd.apache.arrow.file": arrow("file"),
}


@pytest.mark.parametrize("accept", ["*/*", "application/json"])
@pytest.mark.parametrize("kind", TABLES)
def test_so_are_tables(ask, iris_model, kind, accept):
    path = f"/v1/models/{iris_model}/predict"
    status, was_hot = ask.both(path, TABLES[kind], content_type=kind, accept=accept)
    assert (status, was_hot) == (200, False)


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
    "half": (inference(tensor(ROW, [1, 4], "FP16")), False),
    "strings": (inference(tensor(ROW, [1, 4], "BYTES")), False),
    "truth": (inference(tensor([True, False] * 2, [1, 4], "BOOL")), True),
    "some truth": (inference(tensor([True, 3.5, 1, 0], [1, 4])), True),
    "whole numbers": (inference(tensor([2**53 + 1, 2**63, -0, 1], [1, 4], "INT64")), True),
    "spaces": (
        b' {"inputs": [{"data" :\n[ 1 , 2,3,4 ], "name":"input",'
        b' "shape": [1, 4], "datatype":"FP32" } ] } ',
        True,
    ),
    "named data": (inference(tensor(ROW, [1, 4]) | {"name": "data"}), False),
    "data as a parameter": (
        inference({**tensor(ROW, [1, 4]), "data": None, "parameters": {"data": ROW}}),
        False,
    ),
    "data beside": (inference(tensor(ROW, [1, 4]), parameters={"data": [1.5]}), False),
    "no data": (inference({**tensor(ROW, [1, 4]), "data": None}), False),
    "a number": (inference(tensor(5, [1])), False),
    "ragged": (inference(tensor([[1, 2], [3], [], 4], [1, 4])), False),
    "hidden": (inference(tensor([1, [], [2, 3], 4], [1, 4])), False),
    "escaped": (inference(tensor(ROW, [1, 4])).replace(b'data"', b'd\\u0061ta"'), True),
    "binary data as well": (
        inference(tensor(ROW, [1, 4]) | {"parameters": {"binary_data_size": 32}}),
        False,
    ),
    "not a number": (inference(tensor([float("nan"), 1, 2, 3], [1, 4])), False),
    "infinite": (inference(tensor(ROW, [1, 4])).replace(b"5.1", b"1e999"), False),
    "huge": (inference(tensor([2**1100, 1, 2, 3], [1, 4])), False),
    "no inputs": (b"{}", False),
    "array": (b"[]", False),
}


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize(("suffix", "many_bytes"), [("", 1), ("/versions/1", 1 << 12)])
def test_tensors_are_answered_alike(ask, iris_model, monkeypatch, name, suffix, many_bytes):
    monkeypatch.setattr(parsing, "MANY_BYTES", many_bytes)
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


def test_so_they_are_where_there_is_no_quick_parser(ask, iris_model, monkeypatch):
    monkeypatch.setattr(parsing, "MANY_BYTES", 1)
    monkeypatch.setattr(parsing._parsers, "own", None)
    assert ask.both(f"/v1/models/{iris_model}/predict", rows(ROW)) == (200, True)
    infer = f"/v2/models/{iris_model}/infer"
    assert ask.both(infer, inference(tensor(ROW, [1, 4]))) == (200, True)


def test_columns_of_every_kind_are_answered_alike(ask, price_model):
    good = {"size": 3.0, "count": 4, "fresh": True, "colour": "red"}
    path = f"/v1/models/{price_model}/predict"
    ask(path, rows(good))
    for instance in (good, good | {"fresh": 1}, good | {"size": True}, good | {"colour": 4}):
        answer = ask(path, rows(instance))
        ask.hot.forget()
        assert masked(ask(path, rows(instance))) == masked(answer)
        ask(path, rows(good))


def test_a_body_may_come_in_pieces_and_large_ones_are_answered_in_a_thread(ask, iris_model):
    path = f"/v1/models/{iris_model}/predict"
    ask(path, rows(ROW))
    assert ask(path, rows(ROW), cuts=(5, 9)) == ask(path, rows(ROW))
    before = ask.answered
    large = rows(*[[value + 1e-9 for value in ROW]] * 1000)
    assert len(large) > hot_module.QUICK_BYTES
    answer = ask(path, large, cuts=(40_000,))
    assert ask.answered == before + 1
    ask.hot.forget()
    assert ask(path, large) == answer


@pytest.mark.parametrize("cuts", [(), (30,), (10, 20, 30)])
def test_half_a_body_is_refused(ask, iris_model, cuts):
    path = f"/v1/models/{iris_model}/predict"
    assert ask(path, rows(ROW))[0] == 200
    status, _, body = ask(path, rows(ROW), cuts=cuts, breaks_off=True)
    assert status == 400
    assert "broke off" in json.loads(body)["detail"]
    assert ask.answered == 0


def test_more_than_was_said_is_never_taken_for_the_whole(ask, iris_model):
    path, length = f"/v1/models/{iris_model}/predict", {"content-length": "30"}
    assert ask(path, rows(ROW))[0] == 200
    for cuts in ((), (25,), (25, 35)):
        ask(path, rows(ROW), cuts=cuts, **length)
    assert ask.answered == 0


def test_what_is_large_goes_to_flask_and_so_does_what_memory_has_no_room_for(
    ask, iris_model, monkeypatch
):
    path, body = f"/v1/models/{iris_model}/predict", rows(*[ROW] * 100)
    monkeypatch.setattr(reception, "KNOWN_BYTES", len(body))
    monkeypatch.setattr(reception, "FREE_BYTES", 1)
    monkeypatch.setattr(reception, "HELD_BYTES", 100)
    assert ask.both(path, body) == (200, True)
    assert ask.reception._held_bytes == 0
    cuts = {"cuts": (500, 1000)}
    assert ask(path, body, **cuts) == ask(path, body)
    answered = ask.answered
    monkeypatch.setattr(reception, "HELD_BYTES", 0)
    assert ask(path, body, **cuts)[0] == 200
    monkeypatch.setattr(reception, "KNOWN_BYTES", len(body) - 1)
    assert ask(path, body)[0] == 200
    assert ask.answered == answered
    assert ask.reception._held_bytes == 0


def test_bodies_of_those_who_wait_are_counted_too(ask, iris_model, monkeypatch):
    path, body = f"/v1/models/{iris_model}/predict", rows(*[ROW] * 100)
    monkeypatch.setattr(reception, "FREE_BYTES", 1)
    for room, answered in ((3 * len(body), 4), (0, 0)):
        ask.hot.forget()
        ask.answered = 0
        monkeypatch.setattr(reception, "HELD_BYTES", room)
        answers = ask.at_once(path, *[body] * 5)
        assert len({found for _, _, found in answers}) == 1
        assert ask.answered <= answered
        assert (ask.answered > 0) == (room > 0)
        assert ask.reception._held_bytes == 0


def test_few_bytes_that_are_much_arithmetic_are_not_for_the_event_loop(ask, price_model):
    path = f"/v1/models/{price_model}/predict"
    ask(path, rows({}))
    few, many = rows({}), rows(*[{}] * 1000)
    asked = ask.hot.asked(ask.scope(path, many))
    asked.known.quick_rows = 100
    assert ask.hot.is_quick(asked._replace(size=len(few)), few)
    assert not ask.hot.is_quick(asked, many)
