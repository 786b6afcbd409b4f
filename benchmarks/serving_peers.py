"""The peers of `benchmarks.serving`, each at its best; each runs with packages of its own.

Nothing of the project is imported here: a peer's folder has another set of libraries.
``python serving_peers.py fastapi FOLDER PORT`` serves; ``… mlserver FOLDER PORT`` writes what
`mlserver start FOLDER` serves.
"""

import json
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np

CLIP = 3.0


def weights(folder: Path) -> tuple[Any, Any, list[tuple[Any, Any]]]:
    """Return the center and factor of every input, and weight and bias of every layer."""
    with np.load(folder / "digits.npz") as packed:
        layers = [(packed[f"w{n}"], packed[f"b{n}"]) for n in range(3)]
        return packed["center"], packed["factor"], layers


def serve_fastapi(folder: Path, port: int) -> None:
    """Serve by FastAPI and uvicorn, in the event loop: a forward pass is shorter than a hop."""
    import orjson
    import uvicorn
    from fastapi import FastAPI, Request, Response

    center, factor, layers = weights(folder)
    names = [str(digit) for digit in range(10)]
    app = FastAPI()

    @app.post("/v1/models/digits/predict")
    async def predict(request: Request) -> Response:
        x = np.array(orjson.loads(await request.body())["instances"])
        x = (x - center) * factor
        x = (x / np.sqrt(1 + (x / CLIP) ** 2)).astype(np.float32)
        *hidden, (w, b) = layers
        for weight, bias in hidden:
            x = np.maximum(x @ weight + bias, 0)
        x = x @ w + b
        p = np.exp(x - x.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        labels = p.argmax(axis=1).tolist()
        found = [
            {"label": label, "probabilities": dict(zip(names, row, strict=True))}
            for label, row in zip(labels, p.tolist(), strict=True)
        ]
        body = orjson.dumps({"model": "digits", "predictions": found})
        return Response(body, media_type="application/json")

    uvicorn.run(app, port=port, loop="uvloop", http="httptools", access_log=False, log_level=40)


def write_mlserver(folder: Path, port: int) -> None:
    """Write the settings of MLServer, and a scikit-learn classifier with the same weights."""
    import joblib
    from sklearn.neural_network import MLPClassifier

    _, _, layers = weights(folder)
    sizes = tuple(len(bias) for _, bias in layers[:-1])
    model = MLPClassifier(sizes, max_iter=1)
    model.partial_fit(np.zeros((10, 64), np.float32), range(10), classes=range(10))
    for number, (weight, bias) in enumerate(layers):
        model.coefs_[number][:], model.intercepts_[number][:] = weight, bias
    joblib.dump(model, folder / "digits.joblib")
    settings = {"http_port": port, "grpc_port": _free_port(), "metrics_port": _free_port()}
    settings |= {"parallel_workers": 0, "debug": False, "host": "127.0.0.1"}
    (folder / "settings.json").write_text(json.dumps(settings))
    served = {"name": "digits", "implementation": "mlserver_sklearn.SKLearnModel"}
    served |= {"parameters": {"uri": "./digits.joblib"}}
    (folder / "model-settings.json").write_text(json.dumps(served))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    peer, where, number = sys.argv[1:]
    act = {"fastapi": serve_fastapi, "mlserver": write_mlserver}[peer]
    act(Path(where), int(number))
