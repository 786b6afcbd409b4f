"""Train on irises over HTTP: upload, submit, follow, predict.

Start the service with ``make serve``, then run ``.venv/bin/python examples/iris.py [URL]``.
"""

import sys
from pathlib import Path

import httpx

IRIS = Path(__file__).parent / "data" / "iris.csv"


def main(url: str) -> None:
    """Run the four steps against the service at ``url``."""
    with httpx.Client(base_url=url, timeout=90) as client, IRIS.open("rb") as file:
        dataset = checked(client.post("/v1/datasets", files={"file": ("iris.csv", file)}))
        print(f"{dataset['rows']} rows of", ", ".join(c["name"] for c in dataset["columns"]))

        spec = {
            "dataset": dataset["id"],
            "target": "species",
            "network": {"layers": [{"type": "dense", "units": 16, "activation": "tanh"}]},
            "training": {"epochs": 200, "stop": {"patience": 20}},
        }
        job = checked(client.post("/v1/jobs", json=spec))
        job = checked(client.get(f"/v1/jobs/{job['id']}", params={"wait": 60}))
        print(job["status"], job["metrics"])

        flower = {
            "sepal_length": 5.1,
            "sepal_width": 3.5,
            "petal_length": 1.4,
            "petal_width": 0.2,
        }
        answer = client.post(f"/v1/models/{job['model']}/predict", json={"instances": [flower]})
        print(checked(answer)["predictions"][0])


def checked(response: httpx.Response) -> dict:
    """Return the answer, or end with what the service says is wrong."""
    if response.is_error:
        sys.exit(response.json()["detail"])
    return response.json()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")
