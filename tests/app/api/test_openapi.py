"""The OpenAPI document is valid, names every route, and says what a route takes and answers."""

from __future__ import annotations

import json
import re
from typing import get_args

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from app.api.datasets import MEDIA_TYPES
from app.factory import VERSION
from engine import spec
from engine.data.formats.kinds import FORMATS
from engine.spec import Activation
from tests.app.api.callers import IRIS, QUICK, Caller, each_database, problem
from tests.streams import events

PROBLEM = {"$ref": "#/components/schemas/Problem"}
ERROR = {"$ref": "#/components/schemas/InferenceError"}


@pytest.fixture(scope="session")
def document(library):
    answer = library.app.test_client().get("/openapi.json")
    assert answer.mimetype == "application/json"
    return answer.json


@pytest.fixture(scope="session")
def operations(document):
    return {
        (method, path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def schema(document, name):
    return document["components"]["schemas"][name]


def test_the_document_is_valid_openapi_3_1(document):
    validate(document, cls=OpenAPIV31SpecValidator)
    assert document["openapi"].startswith("3.1.")
    assert document["info"] | {"description": ""} == {
        "title": "Chainrule",
        "version": VERSION,
        "description": "",
    }
    assert "upload a dataset" in document["info"]["description"]


def test_a_second_application_has_the_same_document(make_app, document):
    assert make_app().test_client().get("/openapi.json").json == document


def test_every_route_is_in_the_document_and_nothing_else(library, operations):
    routes = {
        (method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in library.app.url_map.iter_rules()
        if rule.endpoint != "service.static"
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert set(operations) == routes


def test_every_call_says_what_it_does_and_has_a_name_of_its_own(operations):
    for operation in operations.values():
        assert operation["summary"].endswith(".")
        assert operation["tags"]
    names = [operation["operationId"] for operation in operations.values()]
    assert len(set(names)) == len(names)


def test_every_call_fails_with_a_problem(operations):
    for place, operation in operations.items():
        failures = {
            status: answer
            for status, answer in operation["responses"].items()
            if status == "default" or status.startswith("4")
        }
        assert "default" in failures, place
        expected = {"application/problem+json": {"schema": PROBLEM}}
        if place[1].startswith("/v2"):
            expected = {"application/json": {"schema": ERROR}}
        for answer in failures.values():
            assert answer["content"] == expected


def test_every_call_says_what_it_answers(operations):
    for place, operation in operations.items():
        [status, *_] = operation["responses"]
        expected = {"delete": "204", "post": "201" if place[1].count("/") == 2 else "200"}
        assert status == expected.get(place[0], "200"), place
        assert ("content" in operation["responses"][status]) == (status != "204"), place


def test_every_post_takes_an_idempotency_key(document, operations):
    reference = {"$ref": "#/components/parameters/IdempotencyKey"}
    for (method, _), operation in operations.items():
        assert (reference in operation.get("parameters", [])) == (method == "post")
    declared = document["components"]["parameters"]["IdempotencyKey"]
    assert (declared["name"], declared["in"]) == ("Idempotency-Key", "header")


def test_what_needs_a_key_is_told_apart_from_what_does_not(document, operations):
    assert document["security"] == [{"key": []}]
    assert document["components"]["securitySchemes"]["key"] == {"type": "http", "scheme": "bearer"}
    for (_, path), operation in operations.items():
        assert operation.get("security") == (
            None if path.startswith(("/v1/", "/v2/models")) else []
        )


def kinds_of(union):
    """The types that a discriminated union tells apart."""
    return {kind.model_fields["type"].default for kind in get_args(get_args(union)[0])}


@pytest.mark.parametrize(
    ("name", "place", "kinds"),
    [
        ("NetworkSpec", ("layers", "items"), kinds_of(spec.Layer)),
        ("JobRequest", ("optimizer",), kinds_of(spec.Optimizer)),
        ("JobRequest", ("schedule",), kinds_of(spec.Schedule)),
    ],
)
def test_what_comes_in_kinds_is_told_apart_by_its_type(document, name, place, kinds):
    found = schema(document, name)["properties"]
    for part in place:
        found = found[part]
    mapping = found["discriminator"]["mapping"]
    assert found["discriminator"]["propertyName"] == "type"
    assert set(mapping) == kinds
    assert {one["$ref"] for one in found["oneOf"]} == set(mapping.values())
    for kind, reference in mapping.items():
        properties = schema(document, reference.rsplit("/", 1)[1])["properties"]
        assert properties["type"]["const"] == kind


def test_the_bounds_of_a_field_are_in_the_document(document):
    dense = schema(document, "DenseLayer")["properties"]
    assert dense["units"]["minimum"] == 1
    assert dense["activation"]["enum"] == list(get_args(Activation))
    assert schema(document, "Adam")["properties"]["learning_rate"]["exclusiveMinimum"] == 0
    request = schema(document, "JobRequest")
    assert set(request["required"]) == {"dataset", "target"}
    assert request["additionalProperties"] is False
    assert all(
        field.get("description") or "$ref" in field for field in request["properties"].values()
    )


def test_the_bounds_of_a_whole_number_are_whole(document):
    seed = schema(document, "JobRequest")["properties"]["seed"]
    assert (seed["minimum"], seed["exclusiveMaximum"]) == (0, 2**63)
    assert type(seed["exclusiveMaximum"]) is int


def test_an_upload_is_a_form_or_the_raw_bytes(operations):
    content = operations["post", "/v1/datasets"]["requestBody"]["content"]
    assert set(content) == {"multipart/form-data", *MEDIA_TYPES}
    form = content["multipart/form-data"]["schema"]
    assert form["required"] == ["file"]
    assert form["properties"]["format"]["enum"] == list(FORMATS)
    assert set(form["properties"]) == {"file", "name", "format", "options"}


def test_a_curve_comes_in_four_forms(operations):
    content = operations["get", "/v1/jobs/{job_id}/curve"]["responses"]["200"]["content"]
    assert set(content) == {"application/json", "text/csv", "image/svg+xml", "image/png"}


def test_a_stream_is_described_by_its_events(operations):
    answer = operations["get", "/v1/jobs/{job_id}/events"]["responses"]["200"]
    [kind] = answer["content"]
    described = answer["content"][kind]["schema"]["oneOf"]
    assert kind == "text/event-stream"
    assert [shape["properties"]["event"]["enum"] for shape in described] == [
        ["status"],
        ["progress"],
        ["point"],
    ]


def parameters(operation):
    return {each["name"]: each for each in operation.get("parameters", []) if "name" in each}


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/v1/datasets", {"limit", "cursor"}),
        ("/v1/jobs", {"limit", "cursor", "status", "dataset", "name"}),
        ("/v1/models", {"limit", "cursor"}),
        ("/v1/jobs/{job_id}", {"job_id", "wait"}),
        ("/v1/jobs/{job_id}/curve", {"job_id", "since"}),
        ("/v1/jobs/{job_id}/events", {"job_id", "Last-Event-ID"}),
        ("/v1/models/{model_id}/weights", {"model_id", "format"}),
        ("/v1/datasets/{dataset_id}/rows", {"dataset_id", "limit"}),
    ],
)
def test_the_parameters_of_a_call_are_in_the_document(operations, path, names):
    assert set(parameters(operations["get", path])) == names


def conforms(document, body, place, status="200", kind="application/json"):
    method, path = place
    answer = document["paths"][path][method]["responses"][status]
    conforms_to(document, body, answer["content"][kind]["schema"])


def conforms_to(document, body, described):
    found = {**described, "components": document["components"]}
    jsonschema.Draft202012Validator(found).validate(body)


def data_of(document, event):
    """The schema of what is within the data of an event."""
    answer = document["paths"]["/v1/jobs/{job_id}/events"]["get"]["responses"]["200"]
    [found] = [
        shape["properties"]["data"]["contentSchema"]
        for shape in answer["content"]["text/event-stream"]["schema"]["oneOf"]
        if shape["properties"]["event"]["enum"] == [event]
    ]
    return found


@each_database
def test_what_is_answered_is_what_the_document_says(ada, document):
    uploaded = ada.send(IRIS).json
    conforms(document, uploaded, ("post", "/v1/datasets"), "201")
    job = ada.trained(uploaded["id"])
    queued = ada.post("/v1/jobs", json={"dataset": uploaded["id"], "target": "species", **QUICK})
    conforms(document, queued.json, ("post", "/v1/jobs"), "201")
    paths = {
        "/v1/datasets": "/v1/datasets",
        "/v1/datasets/{dataset_id}": f"/v1/datasets/{uploaded['id']}",
        "/v1/datasets/{dataset_id}/rows": f"/v1/datasets/{uploaded['id']}/rows",
        "/v1/jobs": "/v1/jobs",
        "/v1/jobs/{job_id}": f"/v1/jobs/{job['id']}",
        "/v1/jobs/{job_id}/curve": f"/v1/jobs/{job['id']}/curve",
        "/v1/models": "/v1/models",
        "/v1/models/{model_id}": f"/v1/models/{job['model']}",
        "/healthz/live": "/healthz/live",
        "/healthz/ready": "/healthz/ready",
    }
    for described, path in paths.items():
        conforms(document, ada.get(path).json, ("get", described))
    stream = ada.get(f"/v1/jobs/{job['id']}/events", buffered=True).text.split("\n")
    for told in events(stream):
        body = {"event": told.name, "id": told.id, "data": json.dumps(told.data)}
        place = ("get", "/v1/jobs/{job_id}/events")
        conforms(document, body, place, kind="text/event-stream")
        conforms_to(document, told.data, data_of(document, told.name))
    predicted = ada.predict(job["model"], [[5.1, 3.5, 1.4, 0.2]])
    conforms(document, predicted.json, ("post", "/v1/models/{model_id}/predict"))
    evaluated = ada.post(f"/v1/models/{job['model']}/evaluate", json={"dataset": uploaded["id"]})
    conforms(document, evaluated.json, ("post", "/v1/models/{model_id}/evaluate"))
    cancelled = ada.post(f"/v1/jobs/{queued.json['id']}/cancel")
    conforms(document, cancelled.json, ("post", "/v1/jobs/{job_id}/cancel"))


def test_a_problem_is_what_the_document_says(library, document):
    described = {**schema(document, "Problem"), "components": document["components"]}
    for answer, status in (
        (library.get("/nothing"), 404),
        (library.post("/v1/jobs", json={}), 422),
        (library.call("PUT", "/v1/jobs"), 405),
    ):
        jsonschema.Draft202012Validator(described).validate(problem(answer, status))


def test_the_document_can_be_had_before_there_is_a_database(make_app, tmp_path):
    app = make_app(database_url=f"sqlite:///{tmp_path}/no/folder.db")
    assert Caller(app, "none").get("/openapi.json").status_code == 200
