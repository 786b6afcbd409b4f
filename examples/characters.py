"""Read handwritten characters: train over HTTP, follow the losses, measure on rows held out.

Start the service with ``make serve``, then run ``.venv/bin/python examples/characters.py [URL]``.
"""

import gzip
import io
import sys
import time
from pathlib import Path

import httpx
import numpy as np

DATA = Path(__file__).parent / "data"
SPLIT_SEED = 20260

RUN = {
    "task": "classification",
    "loss": {"type": "cross_entropy", "label_smoothing": 0.1},
    "optimizer": {"type": "adam", "learning_rate": 0.002},
    "schedule": {"type": "cosine"},
    "validation": {"fraction": 0.1},
}
PERCEPTRON = {
    **RUN,
    "target": "digit",
    "network": {
        "layers": [
            {"type": "dropout", "rate": 0.1},
            {"type": "dense", "units": 512},
            {"type": "dropout", "rate": 0.4},
            {"type": "dense", "units": 256},
            {"type": "dropout", "rate": 0.3},
        ]
    },
    "training": {"epochs": 80},
}
LENET = {
    **RUN,
    "target": "y",
    "network": {
        "layers": [
            {"type": "conv2d", "filters": 16, "kernel": 5, "padding": 2},
            {"type": "max_pool2d"},
            {"type": "conv2d", "filters": 32, "kernel": 5},
            {"type": "max_pool2d"},
            {"type": "flatten"},
            {"type": "dense", "units": 120},
            {"type": "dropout", "rate": 0.3},
            {"type": "dense", "units": 84},
        ]
    },
    "training": {"epochs": 15},
}

File = tuple[str, bytes]


def main(url: str) -> None:
    """Train both networks on the service at ``url``."""
    with httpx.Client(base_url=url, timeout=60) as client:
        print("Digits of 8×8 pixels, each a column; a multilayer perceptron.")
        learn(client, PERCEPTRON, *small_digits())
        print("Digits of 28×28 pixels, all one tensor; a convolutional network, LeNet.")
        learn(client, LENET, *large_digits())


def small_digits() -> tuple[File, File]:
    """Return the rows to train on and those held out, as CSV."""
    header, *rows = gzip.decompress((DATA / "digits.csv.gz").read_bytes()).splitlines()
    training, held_out = (
        ("digits.csv", b"\n".join([header, *(rows[row] for row in part)]))
        for part in split(len(rows))
    )
    return training, held_out


def large_digits() -> tuple[File, File]:
    """Return the images to train on and those held out, as NPZ."""
    with np.load(DATA / "mnist_5k.npz", allow_pickle=False) as arrays:
        images, labels = arrays["X"], arrays["y"]
    training, held_out = (packed(X=images[part], y=labels[part]) for part in split(len(labels)))
    return training, held_out


def packed(**arrays: np.ndarray) -> File:
    """Return arrays as an NPZ file."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return "digits.npz", file.getvalue()


def split(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows train, and which fifth is held out: the same in every run."""
    order = np.random.RandomState(SPLIT_SEED).permutation(rows)  # noqa: NPY002 - frozen for good
    held_out = round(0.2 * rows)
    return order[held_out:], order[:held_out]


def learn(client: httpx.Client, spec: dict, training: File, held_out: File) -> None:
    """Train on some rows and measure on others."""
    request = {**spec, "dataset": upload(client, training)}
    job = follow(client, checked(client.post("/v1/jobs", json=request)))
    answer = client.post(
        f"/v1/models/{job['model']}/evaluate", json={"dataset": upload(client, held_out)}
    )
    measured = checked(answer)
    print(f"{measured['metrics']['accuracy']:.2%} of {measured['rows']} held-out digits are right.")


def upload(client: httpx.Client, file: File) -> str:
    """Upload a dataset; return its id."""
    return checked(client.post("/v1/datasets", files={"file": file}))["id"]


def follow(client: httpx.Client, job: dict) -> dict:
    """Show each epoch with its losses as it is done; return the job that succeeded."""
    url, shown = f"/v1/jobs/{job['id']}", 0
    ended = False
    while not ended:
        time.sleep(0.5)
        job = checked(client.get(url))
        ended = job["status"] in ("succeeded", "failed", "cancelled")
        for point in checked(client.get(f"{url}/curve", params={"since": shown}))["points"]:
            shown = point["epoch"]
            print(
                f"  epoch {shown:>2} of {job['progress']['epochs']}:"
                f" training loss {point['train_loss']:.4f},"
                f" validation loss {point['validation_loss']:.4f}",
                flush=True,
            )
    if job["status"] != "succeeded":
        sys.exit(f"the job is {job['status']}: {job['error']}")
    return job


def checked(response: httpx.Response) -> dict:
    """Return the answer, or end with what the service says is wrong."""
    if response.is_error:
        sys.exit(response.json()["detail"])
    return response.json()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")
