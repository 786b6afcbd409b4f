"""The Open Inference Protocol: the same predictions, as tensors of JSON and of bytes."""

from __future__ import annotations

import gzip
import json
import zlib

import numpy as np
import pytest

from app.api import tensors
from tests.app.api.callers import ABSENT

FLOWERS = [[5.125, 3.5, 1.375, 0.25], [6.75, 3.0, 5.25, 2.375]]
"""Numbers that float32 holds as well as float64."""


def infer(caller, model, body, **options):
    return caller.post(f"/v2/models/{model}/infer", json=body, **options)


def refused(answer, status, text):
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/json"
    assert set(answer.json) == {"error"}
    assert text in answer.json["error"]


def whole(values=FLOWERS, **more):
    return {
        "inputs": [{"name": "input", "shape": [2, 4], "datatype": "FP32", "data": values}]
    } | more


def outputs_of(answer):
    assert answer.status_code == 200, answer.text
    return {output["name"]: output for output in answer.json["outputs"]}


def binary(head, *data):
    said = json.dumps(head).encode()
    headers = {"Inference-Header-Content-Length": str(len(said))}
    return {
        "data": said + b"".join(data),
        "content_type": "application/octet-stream",
        "headers": headers,
    }


def test_the_service_says_what_it_is(library):
    for path in ("/v2", "/v2/"):
        said = library.app.test_client().get(path)
        assert (said.status_code, said.json["name"]) == (200, "chainrule")
        assert said.json["extensions"] == ["binary_tensor_data"]
    assert library.app.test_client().get("/v2/health/live").json == {"live": True}
    assert library.app.test_client().get("/v2/health/ready").json["ready"] is True


def test_a_model_says_what_it_takes_and_answers(library, iris_model, price_model):
    said = library.get(f"/v2/models/{iris_model}").json
    assert said["inputs"] == [
        {"name": "input", "datatype": "FP32", "shape": [-1, 4], "parameters": None}
    ]
    assert [output["name"] for output in said["outputs"]] == ["label", "probabilities"]
    assert said["outputs"][1]["parameters"] == {"classes": ["setosa", "versicolor", "virginica"]}
    assert said["versions"] == ["1"]
    kinds = {
        tensor["name"]: tensor["datatype"]
        for tensor in library.get(f"/v2/models/{price_model}").json["inputs"]
    }
    assert kinds["colour"] == "BYTES"
    assert kinds["size"] == "FP32"
    ready = library.get(f"/v2/models/{iris_model}/versions/1/ready")
    assert (ready.status_code, ready.json) == (200, {"name": iris_model, "ready": True})


def test_tensors_are_predicted_as_rows_are(library, iris_model):
    rows = library.predict(iris_model, FLOWERS).json["predictions"]
    flat = [number for row in FLOWERS for number in row]
    for values in (FLOWERS, flat):
        answer = infer(library, iris_model, whole(values, id="seven"))
        found = outputs_of(answer)
        assert (answer.json["id"], answer.json["model_name"]) == ("seven", iris_model)
        assert found["label"]["data"] == [row["label"] for row in rows]
        assert found["label"]["datatype"] == "BYTES"
        assert found["probabilities"]["shape"] == [2, 3]
        np.testing.assert_allclose(
            found["probabilities"]["data"],
            [share for row in rows for share in row["probabilities"].values()],
            rtol=1e-6,
        )


def test_columns_may_come_one_by_one_and_with_values_missing(library, price_model):
    columns = library.get(f"/v1/models/{price_model}").json["inputs"]
    row = {"size": 2.0, "count": None, "fresh": True, "colour": "red"}
    instance = {column["name"]: row.get(column["name"]) for column in columns}
    sent = [
        {
            "name": name,
            "shape": [2, 1],
            "datatype": "BYTES" if name == "colour" else "FP64",
            "data": [value, value],
        }
        for name, value in instance.items()
    ]
    [expected] = library.predict(price_model, [instance]).json["predictions"]
    found = outputs_of(infer(library, price_model, {"inputs": sent}))
    [values] = found.values()
    assert values["data"] == pytest.approx([expected["value"]] * 2)
    sent[-1]["name"] = "color"
    refused(infer(library, price_model, {"inputs": sent}), 422, "did you mean")
    refused(infer(library, price_model, {"inputs": sent[:-1]}), 422, "is missing")


def test_outputs_come_as_asked(library, iris_model):
    asked = [{"name": "probabilities", "parameters": {"binary_data": False}}]
    assert list(outputs_of(infer(library, iris_model, whole(outputs=asked)))) == ["probabilities"]
    asked = [{"name": "probability"}]
    refused(infer(library, iris_model, whole(outputs=asked)), 422, "no output 'probability'")


@pytest.mark.parametrize("packing", [None, "gzip", "deflate"])
def test_binary_data_goes_both_ways(library, iris_model, packing):
    expected = outputs_of(infer(library, iris_model, whole()))
    data = np.array(FLOWERS, "<f4").tobytes()
    tensor = {"name": "input", "shape": [2, 4], "datatype": "FP32"}
    tensor["parameters"] = {"binary_data_size": len(data)}
    sent = binary({"inputs": [tensor], "parameters": {"binary_data_output": True}}, data)
    if packing is not None:
        pack = gzip.compress if packing == "gzip" else zlib.compress
        sent["data"] = pack(sent["data"])
        sent["headers"]["Content-Encoding"] = packing
    answer = library.post(f"/v2/models/{iris_model}/infer", **sent)
    assert answer.status_code == 200, answer.text
    size = int(answer.headers["Inference-Header-Content-Length"])
    said, rest = json.loads(answer.data[:size]), answer.data[size:]
    label, probabilities = said["outputs"]
    assert label["parameters"]["binary_data_size"] == len(rest) - 2 * 3 * 4
    first = expected["label"]["data"][0].encode()
    assert rest.startswith(len(first).to_bytes(4, "little") + first)
    shares = np.frombuffer(rest[-24:], "<f4")
    np.testing.assert_array_equal(shares, np.array(expected["probabilities"]["data"], "<f4"))
    assert probabilities["datatype"] == "FP32"


def test_a_body_may_be_nothing_but_one_tensor(library, iris_model):
    data = np.array(FLOWERS, "<f4").tobytes()
    headers = {"Inference-Header-Content-Length": "0"}
    path = f"/v2/models/{iris_model}/infer"
    answer = library.post(path, data=data, headers=headers)
    size = int(answer.headers["Inference-Header-Content-Length"])
    assert len(answer.data) - size > 24
    refused(library.post(path, data=data[:-1], headers=headers), 400, "16 bytes a row")
    refused(library.post(path, data=b"", headers=headers), 400, "got 0 bytes")


def test_long_answers_are_packed_for_who_takes_them_so(library, iris_model):
    many = FLOWERS * 200
    body = {"inputs": [{"name": "input", "shape": [400, 4], "datatype": "FP32", "data": many}]}
    plain = infer(library, iris_model, body)
    packed = infer(library, iris_model, body, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain.data


def test_versions_are_those_of_the_name(library, iris, iris_model):
    library.call("PUT", "/v1/names/versioned", json={"model": iris_model})
    other = library.model(iris, seed=9)
    library.call("PUT", "/v1/names/versioned", json={"model": other})
    assert library.get("/v2/models/versioned").json["versions"] == ["1", "2"]
    told = []
    for path in ("/infer", "/versions/1/infer", "/versions/2/infer"):
        answer = library.post(f"/v2/models/versioned{path}", json=whole())
        told.append((answer.json["model_version"], answer.json["parameters"]["model"]))
    assert told == [("2", other), ("1", iris_model), ("2", other)]
    for version in ("0", "3", "x", "9" * 30):
        refused(library.get(f"/v2/models/versioned/versions/{version}"), 404, "no version")
    refused(library.get(f"/v2/models/{iris_model}/versions/2"), 404, "no version")
    library.delete("/v1/names/versioned")


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({"inputs": []}, 422, "/inputs"),
        ({"inputs": 1}, 422, "/inputs"),
        ({"shape": [2, 3]}, 422, "expected 6 values"),
        ({"shape": [4, 2]}, 422, "[rows, 4]"),
        ({"shape": [-2, -4]}, 422, "/inputs/0/shape/0"),
        ({"shape": [0, 4], "data": []}, 422, "rows"),
        ({"shape": [2**40] * 8}, 422, "values for the shape"),
        ({"datatype": "FP33"}, 422, "/inputs/0/datatype"),
        ({"datatype": "FP16"}, 422, "no FP16"),
        ({"datatype": "BYTES"}, 422, "expected strings"),
        ({"data": [["a"] * 4] * 2}, 422, "expected numbers"),
        ({"data": [[1.0] * 4, [1.0]]}, 422, "nested evenly"),
        ({"data": [[{}] * 4] * 2}, 422, "expected numbers"),
        ({"data": None}, 422, "either `data` or"),
        ({"parameters": {"binary_data_size": 32}}, 422, "either `data` or"),
        ({"data": None, "parameters": {"binary_data_size": -1}}, 422, "number of bytes"),
        ({"data": None, "parameters": {"binary_data_size": 32}}, 422, "0 are there"),
        ({"name": "inputs"}, 422, "no input 'inputs'"),
    ],
)
def test_what_cannot_be_read_is_an_error_of_the_protocol(library, iris_model, change, status, text):
    body = whole()
    if "inputs" in change:
        body = change
    else:
        body["inputs"][0] |= change
    refused(infer(library, iris_model, body), status, text)


def test_bytes_that_do_not_add_up_are_refused(library, iris_model):
    path = f"/v2/models/{iris_model}/infer"
    tensor = {"name": "input", "shape": [1, 4], "datatype": "FP32"}
    announced = tensor | {"parameters": {"binary_data_size": 16}}
    refused(library.post(path, **binary({"inputs": [announced]}, b"x" * 17)), 400, "1 bytes follow")
    refused(library.post(path, **binary({"inputs": [announced]}, b"x" * 15)), 422, "are there")
    odd = tensor | {"parameters": {"binary_data_size": 15}}
    refused(library.post(path, **binary({"inputs": [odd]}, b"x" * 15)), 422, "no whole number")
    texts = tensor | {"datatype": "BYTES", "parameters": {"binary_data_size": 5}}
    for data, text in ((b"\x09\0\0\0x", "longer than"), (b"\x01\0\0\0\xff", "not UTF-8")):
        refused(library.post(path, **binary({"inputs": [texts]}, data)), 422, text)
    for sent in ("-1", "x", "1" * 40):
        headers = {"Inference-Header-Content-Length": sent}
        refused(library.post(path, data=b"{}", headers=headers), 400, "number of bytes")
    headers = {"Inference-Header-Content-Length": "9"}
    refused(library.post(path, data=b"{}", headers=headers), 400, "the body has 2 bytes")
    refused(library.post(path, data=b"nothing"), 400, "not valid JSON")
    twice = {"inputs": whole()["inputs"] * 2}
    refused(infer(library, iris_model, twice), 422, "there twice")


def test_a_packed_body_is_bounded_and_whole(library, iris_model):
    path = f"/v2/models/{iris_model}/infer"

    def send(data, encoding="gzip"):
        return library.post(path, data=data, headers={"Content-Encoding": encoding})

    refused(send(gzip.compress(b" " * (64 << 20))), 413, "larger than")
    refused(send(b"nothing"), 400, "not what gzip writes")
    refused(send(gzip.compress(b"{}")[:-1]), 400, "one whole gzip stream")
    refused(send(gzip.compress(b"{}") + b"x"), 400, "one whole gzip stream")
    refused(send(b"", "br"), 415, "expected deflate or gzip")


def test_what_is_not_there_is_an_error_of_the_protocol(library, neighbour, iris_model):
    for path in (f"/v2/models/mdl_{ABSENT}", "/v2/models/absent", "/v2/nothing"):
        refused(library.get(path), 404, "there is no")
    refused(neighbour.get(f"/v2/models/{iris_model}"), 404, "no model")
    refused(infer(neighbour, iris_model, whole()), 404, "no model")
    answer = library.app.test_client().post(f"/v2/models/{iris_model}/infer", json=whole())
    refused(answer, 401, "Bearer")


@pytest.mark.parametrize("datatype", sorted(tensors.DATATYPES))
def test_every_datatype_survives_the_way_there_and_back(datatype):
    values = np.array([[0, 1], [1, 0]]).astype(tensors.DATATYPES[datatype])
    body, size = tensors.write({}, [("x", values, True)])
    tensor = json.loads(body[:size])["outputs"][0]
    assert tensor["datatype"] == datatype
    head = json.dumps({"inputs": [tensor]}).encode()
    back = tensors.read(head + body[size:], len(head)).inputs["x"]
    assert back.dtype == values.dtype
    np.testing.assert_array_equal(back, values)
