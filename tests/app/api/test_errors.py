"""Every error is a problem that says what is wrong, where, and what would do."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import BaseModel, Field, ValidationError
from sqlalchemy import text

from app.api.errors import EXPECTED, SHOWN_CHARACTERS, STATUS, BodyError, invalid, pointer
from app.store import errors as store_errors
from app.store import uploads
from engine.spec import Spec
from tests.app.api.callers import ABSENT, Caller, parts, problem, refusal


@pytest.fixture
def submit(library, iris):
    def send(**changes):
        return library.post("/v1/jobs", json={"dataset": iris, "target": "species", **changes})

    return send


HUGE = {
    "content_type": "application/json",
    "environ_overrides": {"CONTENT_LENGTH": "2147483648"},
}


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/nothing", {}, 404),
        ("GET", f"/v1/jobs/job_{ABSENT}", {}, 404),
        ("PUT", "/v1/jobs", {}, 405),
        ("POST", "/healthz/live", {}, 405),
        ("POST", "/v1/jobs", {"data": b"{", "content_type": "application/json"}, 400),
        ("POST", "/v1/jobs", HUGE, 413),
        ("POST", "/v1/jobs", {"data": b"{}", "content_type": "text/plain"}, 415),
        ("POST", "/v1/jobs", {"json": {}}, 422),
        ("GET", "/v1/jobs?limit=0", {}, 422),
        ("GET", "/v1/jobs?cursor=x", {}, 400),
    ],
)
def test_every_error_is_a_problem_about_its_own_request(library, method, path, options, status):
    answer = library.call(method, path, headers={"X-Request-Id": "mine"}, **options)
    body = problem(answer, status)
    assert body["type"] == "about:blank"
    assert body["instance"] == path.split("?")[0]
    assert body["request_id"] == "mine"


def test_the_instance_is_an_address_also_where_the_path_is_odd(library):
    assert problem(library.get("/x y/ä/%00"), 404)["instance"] == "/x%20y/%C3%A4/%00"


def test_a_method_that_does_nothing_names_those_that_do(library):
    answer = library.call("PATCH", "/v1/jobs")
    wanted = "PATCH does nothing here; GET, HEAD, OPTIONS, POST do"
    assert problem(answer, 405)["detail"] == wanted
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))


def test_a_failure_shows_nothing_of_the_inside(ada, caplog):
    model = ada.model(ada.dataset())
    odd = {"data": b"no model", "sha256": hashlib.sha256(b"no model").hexdigest()}
    with parts(ada.app).database.writing() as session:
        session.execute(text("UPDATE artifacts SET bytes = 8, sha256 = :sha256"), odd)
        session.execute(text("UPDATE artifact_chunks SET data = :data"), odd)
    answer = ada.predict(model, [[5.1, 3.5, 1.4, 0.2]])
    body = problem(answer, 500)
    assert body["detail"] == "the service failed; quote the request id when you report it"
    for inside in ("art_", "sha256", "Traceback", "Error", ".py", "sqlite"):
        assert inside not in answer.text
    [logged] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "the header is longer than the data" in str(logged.exc_info[1])


def test_a_database_that_does_not_answer_is_said_and_when_to_try_again(make_app, tmp_path):
    caller = Caller(make_app(database_url=f"sqlite:///{tmp_path}/no/folder.db"), "key-of-ada-4f1c")
    for answer in (
        caller.get("/v1/jobs"),
        caller.post("/v1/jobs", json={"dataset": "x", "target": "y"}),
    ):
        body = problem(answer, 503)
        assert body["detail"] == "the database does not answer; nothing was changed, try again"
        assert int(answer.headers["Retry-After"]) > 0
        assert str(tmp_path) not in answer.text


@pytest.fixture
def full_disk(monkeypatch):
    """Have an upload written to where there is no room, and leave nothing behind."""
    device = Path("/dev/full")
    if not device.exists():
        pytest.skip("this system has no /dev/full")
    folder = uploads.folder

    @contextmanager
    def full(parent):
        with folder(parent) as path:
            (path / "upload").symlink_to(device)
            yield path

    monkeypatch.setattr(uploads, "folder", full)


@pytest.mark.usefixtures("full_disk")
def test_a_disk_that_is_full_is_said_and_keeps_nothing(ada):
    body = problem(ada.send(), 507)
    assert body["detail"] == "the service's disk is full; nothing was kept, try again later"
    assert list(parts(ada.app).scratch.iterdir()) == []
    assert ada.get("/v1/datasets").json["data"] == []


AN_ID = "expected an id, such as those that the service gives"
CONTROL = "holds control characters; use printable ones"

NUMBER = 'expected a number, got "x"'

WRONG = [
    ("/dataset", None, "expected a string, got null"),
    ("/dataset", "../x", f'{AN_ID}, got "../x"'),
    ("/target", 1, "expected an array or a string, got 1"),
    ("/target", [], "expected at least 1 item(s), got an array"),
    ("/target", "", 'expected at least 1 character(s), got ""'),
    ("/features", "x", 'expected an array, got "x"'),
    ("/network", None, "expected an object or a string, got null"),
    ("/network", [], "expected an object or a string, got an array"),
    ("/network/layers", {}, "expected an array, got an object"),
    ("/optimizer", "adam", 'expected an object, got "adam"'),
    ("/training", 5, "expected an object, got 5"),
    ("/training/epochs", 0, "expected at least 1, got 0"),
    ("/training/epochs", 10**9, "expected at most 1000000, got 1000000000"),
    ("/training/epochs", 1.5, "expected an integer, got 1.5"),
    ("/training/epochs", True, "expected an integer, got true"),
    ("/training/epochs", "9", 'expected an integer, got "9"'),
    ("/training/epochs", None, "expected an integer, got null"),
    ("/training/batch_size", 0, "expected at least 1, got 0"),
    ("/training/batch_size", 10**18, "expected at most 10000000, got 1000000000000000000"),
    ("/training/batch_size", [1], "expected an integer or a string, got an array"),
    ("/training/stop", [], "expected an object, got an array"),
    ("/training/stop/patience", 0, "expected at least 1, got 0"),
    ("/training/stop/target_loss", 0, "expected more than 0, got 0"),
    ("/training/stop/max_seconds", -1, "expected more than 0, got -1"),
    ("/training/speed", 1, "no such field"),
    ("/validation/fraction", 1, "expected less than 1, got 1"),
    ("/validation/fraction", -0.5, "expected at least 0, got -0.5"),
    ("/validation/folds", 1, "expected at least 2, got 1"),
    ("/validation/folds", 2.5, "expected an integer, got 2.5"),
    ("/validation/dataset", "", 'expected at least 1 character(s), got ""'),
    ("/seed", -1, "expected at least 0, got -1"),
    ("/seed", 2**64, f"expected less than {2**63}, got {2**64}"),
    ("/seed", 1.0, "expected an integer, got 1.0"),
    ("/seed", "1", 'expected an integer, got "1"'),
    ("/name", 7, "expected a string, got 7"),
    ("/name", "x" * 201, "expected at most 200 characters, got a string"),
    ("/name", "   ", "is blank; say something or leave it out"),
    ("/name", "a\x00b", CONTROL),
    ("/name", "a\nb", CONTROL),
    ("/name", "a\u202eb", CONTROL),
    ("/metadata", [1], "expected an object, got an array"),
    ("/metadata", {"a": "x" * 20_000}, "takes 20,009 bytes; at most 16,384 are kept"),
    ("/colour", "red", "no such field"),
    ("/__class__", "x", "no such field"),
]


@pytest.mark.parametrize(("path", "value", "reason"), WRONG)
def test_a_wrong_field_is_pointed_to_with_what_would_do(submit, path, value, reason):
    for name in reversed(path.strip("/").split("/")):
        value = {name: value}
    assert refusal(submit(**value), path) == reason


@pytest.mark.parametrize(
    ("changes", "path", "reason"),
    [
        ({"target": ["price", 1]}, "/target/1", "expected a string, got 1"),
        ({"features": ["a", None]}, "/features/1", "expected a string, got null"),
        ({"network": {}}, "/network/layers", "missing"),
        ({"network": {"layers": [5]}}, "/network/layers/0", "expected an object, got 5"),
        (
            {"optimizer": {"type": "adam", "beta1": 1.5}},
            "/optimizer/beta1",
            "expected less than 1, got 1.5",
        ),
        ({"optimizer": {"type": "sgd", "beta1": 0.9}}, "/optimizer/beta1", "no such field"),
        ({"schedule": {"type": "cosine", "floor": 2}}, "/schedule/floor", "no such field"),
        ({"validation": {}}, "/validation/fraction", "missing"),
        ({"a/b~c": 1}, "/a~1b~0c", "no such field"),
    ],
)
def test_a_wrong_part_of_a_field_is_pointed_to(submit, changes, path, reason):
    assert refusal(submit(**changes), path) == reason


@pytest.mark.parametrize("missing", ["dataset", "target"])
def test_what_is_missing_is_pointed_to(library, iris, missing):
    body = {"dataset": iris, "target": "species"}
    del body[missing]
    assert refusal(library.post("/v1/jobs", json=body), f"/{missing}") == "missing"


@pytest.mark.parametrize(
    ("changes", "path", "reason"),
    [
        (
            {"network": {"layers": [{"type": "dens", "units": 1}]}},
            "/network/layers/0/type",
            "unknown 'dens', expected one of dense, activation, dropout, batch_norm, layer_norm, "
            "reshape, flatten, conv2d, max_pool2d, average_pool2d, embedding, equilibrium, "
            "rnn, gru, lstm, "
            "residual; did you mean 'dense'?",
        ),
        (
            {"network": {"layers": [{"units": 1}]}},
            "/network/layers/0/type",
            "missing",
        ),
        (
            {"network": {"layers": [{"type": "dense", "units": 1, "activation": "reluu"}]}},
            "/network/layers/0/activation",
            "unknown 'reluu', expected one of identity, sigmoid, tanh, relu, leaky_relu, elu, "
            "selu, gelu, silu, mish, softplus, hard_sigmoid, hard_tanh, hard_swish; "
            "did you mean 'relu'?",
        ),
        (
            {"optimizer": {"type": "magic"}},
            "/optimizer/type",
            "unknown 'magic', expected one of sgd, adagrad, rmsprop, adam, adamw, nadam, lion, "
            "rprop, lbfgs",
        ),
        (
            {"optimizer": {"type": 5}},
            "/optimizer/type",
            "unknown '5', expected one of sgd, adagrad, rmsprop, adam, adamw, nadam, lion, "
            "rprop, lbfgs",
        ),
        (
            {"schedule": {"type": "cosin"}},
            "/schedule/type",
            "unknown 'cosin', expected one of constant, step, exponential, cosine, one_cycle, "
            "plateau; did you mean 'cosine'?",
        ),
        (
            {"loss": "zero_one"},
            "/loss",
            "unknown 'zero_one', expected one of cross_entropy, binary_cross_entropy, focal, "
            "hinge, squared_error, absolute_error, huber, log_cosh, quantile, poisson",
        ),
        (
            {"task": "clustering"},
            "/task",
            "unknown 'clustering', expected one of classification, regression",
        ),
        (
            {"precision": "float16"},
            "/precision",
            "unknown 'float16', expected one of float32, float64; did you mean 'float64'?",
        ),
        (
            {"network": "automatic"},
            "/network",
            "unknown 'automatic', expected one of auto; did you mean 'auto'?",
        ),
        (
            {"training": {"batch_size": "ful"}},
            "/training/batch_size",
            "unknown 'ful', expected one of full; did you mean 'full'?",
        ),
    ],
)
def test_an_unknown_name_is_answered_with_those_that_are_known(submit, changes, path, reason):
    assert refusal(submit(**changes), path) == reason


def test_a_layer_is_pointed_to_through_the_union(submit):
    layers = [{"type": "dense", "units": 4}, {"type": "dropout", "rate": 1}, {"type": "dense"}]
    body = problem(submit(network={"layers": layers}), 422)
    assert body["errors"] == [
        {"pointer": "/network/layers/1/rate", "detail": "expected less than 1, got 1"},
        {"pointer": "/network/layers/2/units", "detail": "missing"},
    ]
    assert body["title"] == "The request is not valid."
    assert body["detail"] == "/network/layers/1/rate: expected less than 1, got 1 (and 1 more)"


def test_of_very_many_errors_some_are_named(submit):
    body = problem(submit(features=[None] * 1000), 422)
    assert len(body["errors"]) == 50
    assert body["detail"].endswith("(and 999 more)")
    assert body["errors"][49]["pointer"] == "/features/49"


def test_a_value_that_is_long_is_not_repeated(submit):
    answer = submit(task="x" * 10_000)
    assert len(answer.text) < 1000
    assert len(submit(features="x" * (SHOWN_CHARACTERS + 1)).text) < 1000


def test_a_query_is_pointed_into_whatever_the_type_of_its_body(library):
    for kind in ({}, {"content_type": "application/json"}, {"json": {"limit": 5}}):
        answer = library.get("/v1/jobs?limit=0", **kind)
        assert refusal(answer, "/limit") == 'expected at least 1, got "0"'


def test_what_pydantic_finds_and_nobody_foresaw_is_said_in_its_words(library):
    class Odd(BaseModel):
        count: int = Field(multiple_of=7)

    assert "multiple_of" not in EXPECTED
    with pytest.raises(ValidationError) as found:
        Odd.model_validate({"count": 5})
    with library.app.test_request_context(json={"count": 5}):
        body = json.loads(invalid(found.value).get_data())
    reason = "Input should be a multiple of 7, got 5"
    assert body["errors"] == [{"pointer": "/count", "detail": reason}]


def test_what_is_said_may_hold_braces(submit):
    assert refusal(submit(task="{x}"), "/task").startswith("unknown '{x}'")
    assert "'{0}'" in refusal(submit(target="{0}"), "/target")


def test_a_pointer_is_escaped():
    assert pointer("a/b", 0, "m~n") == "/a~1b/0/m~0n"
    assert pointer() == ""


def test_every_refusal_of_the_store_that_a_caller_can_cause_has_a_status():
    damaged = {store_errors.CorruptArtifactError, store_errors.CorruptFileError}
    inside = {store_errors.LostClaimError, *damaged}
    kinds = set(store_errors.StoreError.__subclasses__()) - inside
    assert kinds <= set(STATUS)
    ours = [kind for kind in STATUS if kind.__module__.startswith(("app", "engine"))]
    assert BodyError in ours
    assert all(kind.__doc__.split("\n")[0].endswith(".") for kind in ours)


def test_no_field_of_a_spec_is_coerced():
    assert Spec.model_config["strict"]
    assert Spec.model_config["extra"] == "forbid"
    assert Spec.model_config["allow_inf_nan"] is False
