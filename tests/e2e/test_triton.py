"""Triton's own client reads what the service answers, over a real connection."""

from __future__ import annotations

import numpy as np
import pytest
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException

from tests.e2e.services import IRIS

pytestmark = pytest.mark.e2e

FLOWERS = np.array([[5.125, 3.5, 1.375, 0.25], [6.75, 3.0, 5.25, 2.375]], dtype=np.float32)


@pytest.fixture
def model(service):
    caller = service.caller
    spec = {"training": {"epochs": 20}, "publish": {"name": "flowers"}}
    job = caller.submit(caller.upload(IRIS), target="species", **spec)
    return caller.wait_for(job, "succeeded", "failed")["model"]


@pytest.fixture
def client(service):
    with triton.InferenceServerClient(service.commands[0].url.removeprefix("http://")) as client:
        yield client


@pytest.mark.parametrize("service", ["embedded"], indirect=True)
def test_the_client_finds_and_asks_a_model(service, client, model):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert client.is_model_ready("flowers")
    assert not client.is_model_ready("absent")
    [described] = client.get_model_metadata("flowers")["inputs"]
    rows = {"instances": FLOWERS.tolist()}
    expected = service.caller.post(f"/v1/models/{model}/predict", json=rows).json()["predictions"]
    for sends_binary in (True, False):
        tensor = triton.InferInput(described["name"], FLOWERS.shape, described["datatype"])
        tensor.set_data_from_numpy(FLOWERS, binary_data=sends_binary)
        for takes_binary in (True, False):
            wanted = [
                triton.InferRequestedOutput(name, binary_data=takes_binary)
                for name in ("label", "probabilities")
            ]
            for packing in (None, "gzip", "deflate"):
                found = client.infer(
                    "flowers",
                    [tensor],
                    outputs=wanted,
                    request_id="seven",
                    request_compression_algorithm=packing,
                    response_compression_algorithm=packing,
                )
                labels = [
                    label.decode() if isinstance(label, bytes) else label
                    for label in found.as_numpy("label")
                ]
                assert labels == [row["label"] for row in expected]
                shares = [list(row["probabilities"].values()) for row in expected]
                np.testing.assert_allclose(found.as_numpy("probabilities"), shares, rtol=1e-6)
                assert found.get_response()["id"] == "seven"
                assert found.get_response()["parameters"] == {"model": model}
    assert client.async_infer("flowers", [tensor]).get_result().as_numpy("label").size == 2
    with pytest.raises(InferenceServerException, match="no input 'absent'") as refusal:
        client.infer(
            "flowers",
            [triton.InferInput("absent", [1], "FP32").set_data_from_numpy(np.zeros(1, np.float32))],
        )
    assert refusal.value.status() == "422"
