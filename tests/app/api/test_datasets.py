"""Datasets: uploaded in any of the forms, described, shown, deleted, and refused with a reason."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import zipfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from PIL import Image

from app.api.datasets import MEDIA_TYPES
from tests.app.api.callers import (
    ABSENT,
    DIGITS,
    IRIS,
    Caller,
    csv,
    each_database,
    parts,
    problem,
    refusal,
)

TSV = IRIS.replace(b",", b"\t")
NPZ = "application/x-npz"


def npz(**arrays):
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=True, **arrays)
    return packed.getvalue()


def archived(name, data):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, data)
    return packed.getvalue()


def packed_array(dtype, shape):
    """An archive whose one array announces more than it holds."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}".encode()
    return archived("a.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


def zstd(data):
    return pa.Codec("zstd").compress(data, asbytes=True)


def form(data=IRIS, filename="iris.csv", **fields):
    return {"data": {"file": (io.BytesIO(data), filename), **fields}}


def send_form(caller, **sent):
    return caller.post("/v1/datasets", content_type="multipart/form-data", **sent)


@each_database
def test_an_upload_answers_where_the_dataset_is_and_what_it_holds(ada):
    answer = ada.send(query="?name=Irises")
    assert answer.status_code == 201
    body = answer.json
    assert answer.headers["Location"] == f"/v1/datasets/{body['id']}"
    assert body["id"].startswith("ds_")
    age = datetime.now(UTC) - datetime.fromisoformat(body.pop("created_at"))
    assert abs(age) < timedelta(minutes=1)
    columns = body.pop("columns")
    assert body == {
        "id": body["id"],
        "name": "Irises",
        "format": "csv",
        "rows": 150,
        "bytes": len(IRIS),
        "sha256": hashlib.sha256(IRIS).hexdigest(),
        "sniffed": {"encoding": "utf-8", "delimiter": ",", "decimal": ".", "header": True},
        "stored_bytes": body["stored_bytes"],
    }
    assert body["stored_bytes"] > 4 * 150 * 8  # four columns of numbers
    length = columns[0]
    assert length.pop("mean") == pytest.approx(5.8433, abs=1e-4)
    assert length.pop("std") == pytest.approx(0.8253, abs=1e-4)
    assert length.pop("top")[0] == [5.0, 10]
    assert length == {
        "name": "sepal_length",
        "type": "number",
        "missing": 0,
        "non_finite": 0,
        "distinct": 35,
        "min": 4.3,
        "max": 7.9,
        "quantiles": {
            "0.05": 4.6,
            "0.25": 5.1,
            "0.5": 5.8,
            "0.75": 6.4,
            "0.95": pytest.approx(7.255),
        },
        "shape": None,
        "approximate": [],
        "flags": [],
        "notes": [],
    }
    species = columns[-1]
    assert (species["type"], species["distinct"], species["mean"]) == ("category", 3, None)
    assert species["top"] == [["setosa", 50], ["versicolor", 50], ["virginica", 50]]
    assert ada.get(answer.headers["Location"]).json == answer.json


def test_every_type_of_a_column_is_told(library):
    answer = library.send(
        csv(
            "number,integer,boolean,category,timestamp",
            "1.5,1,true,a,2026-01-02T03:04:05Z",
            ",,,,",
            "inf,2,false,b,2026-01-02T03:04:06Z",
        )
    )
    columns = answer.json["columns"]
    assert [column["type"] for column in columns] == [column["name"] for column in columns]
    assert [column["missing"] for column in columns] == [1] * 5
    assert columns[0]["non_finite"] == 1
    assert columns[4]["min"] == "2026-01-02T03:04:05.000000Z"
    many = csv("text", *(f"remark {row}" for row in range(50)))
    assert library.send(many).json["columns"][0]["type"] == "text"


@pytest.mark.parametrize(
    ("data", "kind", "filename"),
    [
        (IRIS, "text/csv", "iris.csv"),
        (IRIS, "text/csv; charset=utf-8", "IRIS.CSV"),
        (b"\xef\xbb\xbf" + IRIS, "text/csv", "iris.csv"),
        (IRIS.replace(b"\n", b"\r\n"), "text/csv", "iris.csv"),
        (gzip.compress(IRIS), "text/csv", "iris.csv.gz"),
        (zstd(IRIS), "text/csv", "iris.csv.zst"),
        (TSV, "text/tab-separated-values", "iris.tsv"),
        (gzip.compress(TSV), "text/tab-separated-values", "iris.tsv.gz"),
    ],
    ids=["csv", "charset", "bom", "crlf", "csv.gz", "csv.zst", "tsv", "tsv.gz"],
)
def test_a_table_is_the_same_however_it_is_sent(library, iris, data, kind, filename):
    columns = library.get(f"/v1/datasets/{iris}").json["columns"]
    for answer in (library.send(data, kind), send_form(library, **form(data, filename))):
        assert answer.status_code == 201
        assert answer.json["columns"] == columns
        assert answer.json["bytes"] == len(data)
        assert answer.json["sha256"] == hashlib.sha256(data).hexdigest()


def objects(table):
    return [
        dict(zip(table.column_names, row, strict=True))
        for row in zip(*table.to_pydict().values(), strict=True)
    ]


def written(write):
    table = pa.csv.read_csv(io.BytesIO(IRIS))
    out = io.BytesIO()
    write(table, out)
    return out.getvalue()


def to_arrow(make):
    def write(table, out):
        with make(out, table.schema) as writer:
            writer.write_table(table)

    return write


IN_OTHER_FORMATS = {
    "application/x-ndjson": (
        "ndjson",
        lambda t, out: out.write("\n".join(map(json.dumps, objects(t))).encode()),
    ),
    "application/json": (
        "json",
        lambda t, out: out.write(json.dumps(objects(t), indent=1).encode()),
    ),
    "application/vnd.apache.parquet": ("parquet", pa.parquet.write_table),
    "application/vnd.apache.arrow.file": ("arrow", to_arrow(pa.ipc.new_file)),
    "application/vnd.apache.arrow.stream": ("arrow", to_arrow(pa.ipc.new_stream)),
}


@pytest.mark.parametrize("kind", IN_OTHER_FORMATS)
def test_a_table_is_the_same_in_every_format(library, iris, kind):
    file_format, write = IN_OTHER_FORMATS[kind]
    columns = library.get(f"/v1/datasets/{iris}").json["columns"]
    data = written(write)
    sent = [library.send(data, kind), send_form(library, **form(data, f"iris.{file_format}"))]
    if "json" in kind:
        sent.append(library.send(gzip.compress(data), kind))
    for answer in sent:
        assert (answer.status_code, answer.json["format"]) == (201, file_format)
        assert answer.json["columns"] == columns


def test_images_come_in_a_zip_and_can_be_trained_on(library):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(12):
            picture = io.BytesIO()
            Image.new("L", (4, 4), 200 * (number % 2)).save(picture, "PNG")
            archive.writestr(
                f"{'dark' if number % 2 == 0 else 'light'}/{number}.png", picture.getvalue()
            )
    for answer in (
        library.send(packed.getvalue(), "application/zip"),
        send_form(library, **form(packed.getvalue(), "pictures.zip")),
    ):
        assert [column["type"] for column in answer.json["columns"]] == ["tensor", "category"]
    model = library.get(f"/v1/models/{library.model(answer.json['id'], 'class')}").json
    assert model["classes"] == ["dark", "light"]


EUROPEAN = "Preis;Datum\n1,5;1.2.2026\n2,5;?\n".encode("cp1252")


def test_what_was_sniffed_is_told_and_options_override_it(library):
    answer = library.send(EUROPEAN)
    assert answer.json["sniffed"] == {
        "encoding": "utf-8",
        "delimiter": ";",
        "decimal": ",",
        "header": True,
    }
    price, day = answer.json["columns"]
    assert (price["type"], price["max"]) == ("number", 2.5)
    assert (day["type"], day["notes"][0]) == ("timestamp", "'?' counts as missing, 1 times")
    assert library.get(answer.headers["Location"]).json == answer.json
    options = {"decimal": ".", "missing": [], "types": {"Preis": "text"}}
    for other in (
        library.send(EUROPEAN, query=f"?options={quote(json.dumps(options))}"),
        send_form(library, **form(EUROPEAN, options=json.dumps(options))),
    ):
        price, day = other.json["columns"]
        assert (price["type"], day["type"]) == ("text", "category")
        assert other.json["sniffed"]["decimal"] == "."


BAD_FILES = {
    "json": ("application/x-ndjson", b'{"x": 1}\n{"x": \n', "line 2: not JSON: Expecting value"),
    "nested": ("application/json", b'[{"x": {}}]', "line 1, column 'x': holds an object"),
    "parquet": ("application/vnd.apache.parquet", b"PAR1", "not a whole Parquet file"),
    "arrow": ("application/vnd.apache.arrow.file", b"ARROW1", "not a whole Arrow file"),
    "zip": ("application/zip", archived("../x.png", b""), "'../x.png' leads out of the archive"),
    "type": ("text/csv", b"a\nb\n", "it is named, but the file has no such column"),
}


@pytest.mark.parametrize(("kind", "data", "reason"), BAD_FILES.values(), ids=BAD_FILES)
def test_files_of_other_formats_are_refused_with_a_reason(library, kind, data, reason):
    query = "?options=" + quote('{"types": {"y": "text"}}') if kind == "text/csv" else ""
    assert reason in problem(library.send(data, kind, query=query), 422)["detail"]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"cell_limit": 700}, "holds more than the 700 values allowed"),
        ({"cell_limit": 750}, None),
        ({"column_limit": 4}, "5 columns; at most 4 are allowed"),
        ({"column_limit": 5}, None),
    ],
)
def test_values_and_columns_are_limited_by_a_setting(make_app, ada, settings, reason):
    answer = Caller(make_app(**settings), ada.key).send()
    assert answer.status_code == 201 if reason is None else reason in problem(answer, 422)["detail"]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd], ids=["plain", "gzip", "zstd"])
def test_arrays_come_as_npz(library, pack):
    images = np.arange(24, dtype=np.uint8).reshape(3, 2, 4)
    data = pack(npz(X=images, y=np.array([0, 1, 1]), z=np.array(["a", "b", "a"])))
    for answer in (library.send(data, NPZ), send_form(library, **form(data, "x.npz"))):
        assert answer.status_code == 201
        columns = {column["name"]: column for column in answer.json["columns"]}
        assert [column["type"] for column in columns.values()] == ["tensor", "integer", "category"]
        assert columns["X"]["shape"] == [2, 4]
        assert (columns["X"]["min"], columns["X"]["max"]) == (0, 23)
        rows = library.get(f"/v1/datasets/{answer.json['id']}/rows").json["data"]
        assert rows[2] == {"X": images[2].tolist(), "y": 1, "z": "a"}


def test_a_content_encoding_that_is_true_is_taken(library):
    for data, encoding in ((gzip.compress(IRIS), "gzip"), (zstd(IRIS), "zstd"), (IRIS, "identity")):
        answer = library.send(data, headers={"Content-Encoding": encoding})
        assert answer.json["rows"] == 150


def test_a_dataset_is_called_after_what_is_at_hand(library):
    assert library.send().json["name"] == "untitled.csv"
    assert library.send(query="?name=Irises").json["name"] == "Irises"
    assert send_form(library, **form()).json["name"] == "iris.csv"
    assert send_form(library, **form(name="Blüten")).json["name"] == "Blüten"


def test_the_format_of_a_form_can_be_said(library):
    answer = send_form(library, **form(TSV, "iris.data", format="tsv"))
    assert (answer.json["format"], answer.json["rows"]) == ("tsv", 150)


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("../../etc/x.csv", "../../etc/x.csv"),
        ("a\0b.csv", "a_b.csv"),
        ("a\u202eb.csv", "a_b.csv"),
        ("x" * 300 + ".csv", "x" * 196 + ".csv"),
        ("CON.csv", "CON.csv"),
        ("<img onerror=x>.csv", "<img onerror=x>.csv"),
    ],
)
def test_a_filename_is_a_label_and_never_a_path(library, filename, name):
    assert send_form(library, **form(filename=filename)).json["name"] == name
    for kept in (parts(library.app).settings.home / "datasets").iterdir():
        assert re.fullmatch(r"table_[0-9a-f]{32}-[0-9a-f]{64}\.arrow", kept.name)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ({"data": {"name": "x"}}, "expected one file with a filename, in the form's field `file`"),
        ({"data": {"data": (io.BytesIO(IRIS), "x.csv")}}, "in the form's field `file`"),
        ({"data": {"file": [(io.BytesIO(IRIS), "x.csv")] * 2}}, "expected one file"),
        (form(other=(io.BytesIO(IRIS), "y.csv")), "expected one file"),
        (form(filename=""), "expected one file with a filename"),
        (form(name=["x", "y"]), "the form gives 'name' 2 times; give it once"),
    ],
)
def test_a_form_without_its_one_file_is_refused(library, sent, reason):
    assert reason in problem(send_form(library, **sent), 400)["detail"]


@pytest.mark.parametrize(
    ("fields", "path", "reason"),
    [
        (
            {"format": "excel"},
            "/format",
            "unknown 'excel', expected one of csv, tsv, ndjson, json, parquet, arrow, npz, images",
        ),
        ({"name": ""}, "/name", 'expected at least 1 character(s), got ""'),
        ({"name": "a\0b"}, "/name", "holds control characters; use printable ones"),
        ({"name": "x" * 201}, "/name", "expected at most 200 characters, got a string"),
        ({"colour": "red"}, "/colour", "no such field"),
        ({"options": "{"}, "/options", 'expected a JSON object such as {"delimiter": ";"}'),
        ({"options": "[]"}, "/options", "expected an object, got an array"),
        ({"options": '{"colour": 1}'}, "/options/colour", "no such field"),
        ({"options": '{"delimiter": "x"}'}, "/options/delimiter", "unknown 'x', expected one of "),
        ({"options": '{"types": {"a": "tensor"}}'}, "/options/types/a", "unknown 'tensor', expe"),
    ],
)
def test_a_wrong_field_of_a_form_is_pointed_to(library, fields, path, reason):
    assert refusal(send_form(library, **form(**fields)), path).startswith(reason)


@pytest.mark.parametrize("filename", ["iris", "iris.xlsx"])
def test_a_format_that_cannot_be_told_is_asked_for(library, filename):
    reason = refusal(send_form(library, **form(filename=filename)), "/format")
    assert reason.startswith(f"cannot tell the format of {filename!r}; end its name in .csv, ")


PART = b'--b\r\nContent-Disposition: form-data; name="'
END = b"\r\n--b--\r\n"

BAD_FORMS = {
    "empty": (b"", 400),
    "cut in a header": (PART, 400),
    "cut in a file": (PART + b'file"; filename="x.csv"\r\n\r\na,b\r\n1,2', 400),
    "part without a header": (b"--b\r\n\r\na,b" + END, 400),
    "another boundary": (b"--c\r\n\r\na,b\r\n--c--\r\n", 400),
    "very many parts": (b"".join(PART + b'f%d"\r\n\r\n1\r\n' % n for n in range(9999)) + END, 413),
    "very long header": (PART + b"n" * 2**20 + b'"\r\n\r\n1' + END, 413),
    "very long field": (PART + b'name"\r\n\r\n' + b"n" * 2**20 + END, 413),
}


@pytest.mark.parametrize(("body", "status"), BAD_FORMS.values(), ids=BAD_FORMS.keys())
def test_a_form_that_is_none_is_refused(library, body, status):
    kind = "multipart/form-data; boundary=b"
    problem(library.post("/v1/datasets", data=body, content_type=kind), status)


@pytest.mark.parametrize(
    "boundary", ["", "; boundary=", "; boundary=" + "b" * 9000, "; boundary=ü"]
)
def test_a_form_without_a_boundary_is_refused(library, boundary):
    kind = f"multipart/form-data{boundary}"
    problem(library.post("/v1/datasets", data=PART, content_type=kind), 400)


@pytest.mark.parametrize("kind", ["", "text/plain", "application/octet-stream"])
def test_another_media_type_is_refused_with_those_that_are_taken(library, kind):
    refused = problem(library.send(IRIS, kind), 415)
    taken = ", ".join(["multipart/form-data", *MEDIA_TYPES])
    assert refused["detail"].startswith(f"expected one of {taken}; got ")


LINES = "the file is empty; expected a header line and rows"

BAD_TABLES = {
    "nothing": (b"", LINES),
    "blank": (b"\n\n", "the file is blank; expected a header line and rows"),
    "header": (csv("a,b"), "line 1: only a header; expected at least one row below it"),
    "short row": (csv("a,b", "1,2", "3"), "line 3: expected 2 values as in the header, got 1"),
    "long row": (csv("a,b", "1,2,3"), "line 2: expected 2 values as in the header, got 3"),
    "after a quoted line break": (
        csv("a,b", '"x', 'y",2', "3"),
        "line 4: expected 2 values as in the header, got 1",
    ),
    "far down": (
        csv("a,b", *["1,2"] * 70_000, "3", "4,5"),
        "line 70002: expected 2 values as in the header, got 1",
    ),
    "names": (csv("a,a", "1,2"), "line 1, column 'a': appears 2 times"),
    "no name": (csv("a,", "1,2"), "line 1: column 2 has no name"),
    "no text": (b"a,b\n\x81,1\n", "line 2: holds bytes that are not text in UTF-8, UTF-16 or"),
    "NUL": (b"a,b\n1,\0\n", "line 2: holds the control character 0x00"),
    "open quote": (b'a,b\n1,"2\n3,4\n', "line 2: a quoted value is not closed in the row"),
    "cut gzip": (gzip.compress(IRIS)[:-9], "not a whole gzip file"),
    "gzip and more": (gzip.compress(IRIS) + b"x", "not a whole gzip file"),
    "cut zstd": (zstd(IRIS)[:-5], "not a whole zstd file"),
    "empty gzip": (gzip.compress(b""), LINES),
    "gzip in gzip": (gzip.compress(gzip.compress(IRIS)), "line 1: holds "),
}


@pytest.mark.parametrize(("data", "reason"), BAD_TABLES.values(), ids=BAD_TABLES.keys())
def test_a_file_that_is_no_table_is_refused_with_the_line(library, data, reason):
    for answer in (library.send(data), send_form(library, **form(data))):
        refused = problem(answer, 422)
        assert reason in refused["detail"]
        assert refused["title"] == "The file cannot be read as a table."


BAD_ARRAYS = {
    "nothing": (b"", "not an NPZ file; write it with numpy.savez"),
    "csv": (IRIS, "not an NPZ file; write it with numpy.savez"),
    "none": (npz(), "holds no arrays"),
    "objects": (npz(a=np.array([{}], dtype=object)), "Python objects in dtype"),
    "rows": (npz(a=np.zeros(2), b=np.zeros(3)), "column 'b': has 3 rows, but 'a' has 2"),
    "scalar": (npz(a=np.float64(1)), "column 'a': has no rows"),
    "no rows": (npz(a=np.zeros((0, 3))), "column 'a': has no rows"),
    "no values": (npz(a=np.zeros((3, 0))), "column 'a': has the empty shape"),
    "complex": (npz(a=np.zeros(2, complex)), "expected numbers, booleans or strings"),
    "bytes": (npz(a=np.zeros(2, "S3")), "expected numbers, booleans or strings"),
    "empty strings without end": (
        packed_array("<U0", f"({10**12},)"),
        "expected numbers, booleans or strings",
    ),
    "numbers without end": (packed_array("<f8", f"({10**12},)"), "cannot be read as arrays"),
    "another file": (archived("readme.txt", b"hello"), "write the file with numpy.savez"),
    "structured": (npz(a=np.zeros(2, [("x", "f4")])), "expected numbers, booleans or strings"),
}


@pytest.mark.parametrize(("data", "reason"), BAD_ARRAYS.values(), ids=BAD_ARRAYS.keys())
def test_arrays_that_are_no_table_are_refused(library, data, reason):
    assert reason in problem(library.send(data, NPZ), 422)["detail"]


def test_nothing_is_left_of_an_upload_that_was_refused(ada):
    problem(ada.send(csv("a,b", "1")), 422)
    problem(ada.send(csv("a,b", "1,2"), NPZ), 422)
    problem(send_form(ada, **form(csv("a,b", "1"))), 422)
    home = parts(ada.app).settings.home
    assert [*(home / "uploads").iterdir(), *(home / "datasets").iterdir()] == []
    assert ada.get("/v1/datasets").json["data"] == []


@pytest.mark.parametrize("pack", [gzip.compress, zstd], ids=["gzip", "zstd"])
def test_a_file_that_unpacks_to_too_much_is_refused(make_app, ada, pack):
    caller = Caller(make_app(unpacked_limit_bytes=2**20), ada.key)
    bomb = pack(b"a\n" + b"1\n" * 2**20)
    assert len(bomb) < 10_000
    assert "unpacks to more than the 1,048,576 bytes" in problem(caller.send(bomb), 422)["detail"]


def test_arrays_that_unpack_to_too_much_are_refused(make_app, ada):
    caller = Caller(make_app(unpacked_limit_bytes=2**20), ada.key)
    packed = io.BytesIO()
    np.savez_compressed(packed, a=np.zeros(2**20))
    refused = problem(caller.send(packed.getvalue(), NPZ), 422)
    assert "unpacks to more than the 1,048,576 bytes" in refused["detail"]


def test_the_names_in_an_archive_are_no_paths(ada):
    array = io.BytesIO()
    np.save(array, np.arange(3))
    answer = ada.send(archived("../../outside.npy", array.getvalue()), NPZ)
    assert answer.json["columns"][0]["name"] == "../../outside"
    home = parts(ada.app).settings.home
    assert not list(home.parent.glob("**/outside*"))


@each_database
def test_a_nul_in_a_table_comes_back_as_it_was_and_in_a_name_is_replaced(ada):
    assert send_form(ada, **form(filename="a\0b.csv")).json["name"] == "a_b.csv"
    lines = [{"word": word, "n": n} for n, word in enumerate(("a\0b", "a\0b", "c"))]
    answer = ada.send(csv(*map(json.dumps, lines)), "application/x-ndjson")
    column = answer.json["columns"][0]
    assert (column["name"], column["top"][0]) == ("word", ["a\0b", 2])
    rows = ada.get(f"/v1/datasets/{answer.json['id']}/rows").json["data"]
    assert rows[0] == {"word": "a\0b", "n": 0}
    classifier = ada.get(f"/v1/models/{ada.model(answer.json['id'], 'word')}").json
    assert classifier["classes"] == ["a\0b", "c"]
    model = ada.model(answer.json["id"], "n", task="regression")
    assert ada.predict(model, [{"word": "c"}, {"word": "d\0"}]).status_code == 200


def test_the_first_rows_are_shown_as_json(library):
    lines = ["number,flag,word,time"]
    lines += [
        f"{row}.5,{str(row > 1).lower()},w{row % 3},2026-01-0{1 + row % 9}" for row in range(30)
    ]
    dataset = library.dataset(csv(*lines, ",,,", "inf,true,w1,2026-01-01"))
    rows = library.get(f"/v1/datasets/{dataset}/rows").json["data"]
    assert len(rows) == 10
    time = "2026-01-01T00:00:00.000000Z"
    assert rows[0] == {"number": 0.5, "flag": False, "word": "w0", "time": time}
    rows = library.get(f"/v1/datasets/{dataset}/rows?limit=1000").json["data"]
    assert len(rows) == 32
    assert rows[30] == dict.fromkeys(rows[0])
    assert rows[31]["number"] is None  # JSON has no infinity
    assert len(library.get(f"/v1/datasets/{dataset}/rows?limit=1").json["data"]) == 1


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "1e3", "x", "NaN", ""])
def test_how_many_rows_is_bounded(library, iris, limit):
    refusal(library.get(f"/v1/datasets/{iris}/rows?limit={limit}"), "/limit")


@each_database
def test_a_dataset_that_is_deleted_is_gone_with_its_file(ada):
    dataset = ada.dataset()
    answer = ada.delete(f"/v1/datasets/{dataset}")
    assert (answer.status_code, answer.data) == (204, b"")
    problem(ada.get(f"/v1/datasets/{dataset}"), 404)
    problem(ada.delete(f"/v1/datasets/{dataset}"), 404)
    assert list((parts(ada.app).settings.home / "datasets").iterdir()) == []


def test_equal_uploads_of_two_owners_do_not_disturb_each_other(ada, charles):
    hers, his = ada.dataset(), charles.dataset()
    ada.delete(f"/v1/datasets/{hers}")
    assert charles.get(f"/v1/datasets/{his}/rows").status_code == 200


@each_database
def test_equal_uploads_that_come_and_go_at_once_do_not_disturb_each_other(ada, charles):
    def come_and_go(caller):
        dataset = f"/v1/datasets/{caller.dataset()}"
        shown = caller.get(f"{dataset}/rows").status_code
        return shown, caller.delete(dataset).status_code

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(come_and_go, [ada, charles] * 30))
    assert set(outcomes) == {(200, 204)}
    assert list((parts(ada.app).settings.home / "datasets").iterdir()) == []


def test_a_dataset_that_is_deleted_while_it_is_read_is_there_or_not(ada):
    for _ in range(10):
        dataset = f"/v1/datasets/{ada.dataset()}"
        reads, delete = [("GET", f"{dataset}/rows")] * 7, ("DELETE", dataset)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda call: ada.call(*call), [*reads[:3], delete, *reads[3:]]))
        assert {answer.status_code for answer in answers} <= {200, 204, 404}


@each_database
def test_a_dataset_that_a_live_job_uses_cannot_be_deleted(ada):
    dataset = ada.dataset()
    job = ada.job(dataset)
    refused = problem(ada.delete(f"/v1/datasets/{dataset}"), 409)
    assert refused["detail"] == f"dataset: job {job} uses it; cancel it or wait for its end"
    ada.post(f"/v1/jobs/{job}/cancel")
    assert ada.delete(f"/v1/datasets/{dataset}").status_code == 204
    assert ada.get(f"/v1/jobs/{job}").json["spec"]["dataset"] == dataset


@pytest.mark.parametrize("whose", ["absent", "another's", "another kind"])
@pytest.mark.parametrize(("method", "rest"), [("GET", ""), ("GET", "/rows"), ("DELETE", "")])
def test_a_dataset_that_is_not_ones_own_is_not_there(library, neighbour, whose, method, rest):
    theirs = neighbour.dataset()
    asked = {"absent": f"ds_{ABSENT}", "another's": theirs, "another kind": f"job_{ABSENT}"}[whose]
    refused = problem(library.call(method, f"/v1/datasets/{asked}{rest}"), 404)
    assert refused["detail"] == f"there is no dataset '{asked}'"
    assert refused["title"] == "Not found."
    assert theirs not in library.get("/v1/datasets?limit=200").text
    assert neighbour.get(f"/v1/datasets/{theirs}").status_code == 200


def test_a_large_upload_goes_through_whole(library):
    answer = library.send(DIGITS)
    assert answer.json["rows"] == 1797
    assert len(answer.json["columns"]) == 65
