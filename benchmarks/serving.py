"""Ask how many predictions a second one core serves, beside FastAPI with uvicorn and MLServer.

All serve the digits network 64-128-64-10, and all servers run at once on core 0: round by round
each is asked in turn by `benchmarks.load` on core 1, so that all see the same machine. A figure
is the median over the rounds. Ours and FastAPI answer the same JSON, scaling included; MLServer
speaks the Open Inference Protocol, and is set beside our `infer`. Ours logs every request, as it
does by default; the peers log none.

The peers are no part of the service. Each has packages of its own:

    pip install --target PEERS/fastapi fastapi 'uvicorn[standard]' orjson numpy
    pip install --target PEERS/mlserver mlserver==1.7.1 mlserver-sklearn==1.7.1

    python -m benchmarks.serving PEERS                       # all of it, about ten minutes
    python -m benchmarks.serving PEERS --quick               # one row, 8 connections
    python -m benchmarks.serving PEERS --memory              # of our process, and nothing else
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from app.config import Settings, child_environment
from app.factory import create_app
from app.store import artifacts, trained_models
from engine.checkpoint import load_model
from tests import servers
from tests.app.api.callers import DIGITS, KEYS, Caller, parts

KEY = KEYS["ada"]
ROWS, CONNECTIONS = (1, 32, 1000), (1, 8, 64)
PREDICTIONS = 100_000
MODELS = 100


@dataclass(frozen=True)
class Side:
    """A way to be asked.

    Parameters
    ----------
    port : int
    request : callable
        From rows to the request as it goes over the wire.
    """

    port: int
    request: Callable[[list[list[float]]], bytes]


def post(path: str, body: bytes, **headers: str) -> bytes:
    """Return a request."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {KEY}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def instances(path: str) -> Callable[[list[list[float]]], bytes]:
    """Ask in our JSON."""
    return lambda rows: post(path, json.dumps({"instances": rows}).encode())


def tensors(path: str, name: str, output: str) -> Callable[[list[list[float]]], bytes]:
    """Ask in the protocol's JSON."""

    def request(rows: list[list[float]]) -> bytes:
        data = [number for row in rows for number in row]
        tensor = {"name": name, "shape": [len(rows), 64], "datatype": "FP32", "data": data}
        body = {"inputs": [tensor], "outputs": [{"name": output}]}
        return post(path, json.dumps(body).encode())

    return request


def binary(path: str) -> Callable[[list[list[float]]], bytes]:
    """Ask in the protocol's binary data."""

    def request(rows: list[list[float]]) -> bytes:
        data = np.array(rows, "<f4").tobytes()
        tensor = {"name": "input", "shape": [len(rows), 64], "datatype": "FP32"}
        tensor["parameters"] = {"binary_data_size": len(data)}
        wanted = {"name": "probabilities", "parameters": {"binary_data": True}}
        head = json.dumps({"inputs": [tensor], "outputs": [wanted]}).encode()
        return post(path, head + data, Inference_Header_Content_Length=str(len(head)))

    return request


def trained(home: Path) -> tuple[Caller, str]:
    """Train the model; return who can ask for it and its id."""
    url = f"sqlite:///{home / 'chainrule.db'}"
    servers.migrated(url)
    caller = Caller(create_app(Settings(home=home, database_url=url, api_keys=KEYS)), KEY)
    layers = [{"type": "dense", "units": units} for units in (128, 64)]
    model = caller.model(caller.dataset(DIGITS), "digit", network={"layers": layers})
    return caller, model


def hand_over(caller: Caller, model: str, folder: Path) -> None:
    """Write the model's numbers for the peers."""
    served = parts(caller.app).predictor.model("ada", model).model
    center, factor = served.features.scale
    packed = {"center": center, "factor": factor}
    tensors_of = served.network.tensors()
    for number in range(3):
        packed[f"w{number}"] = np.ascontiguousarray(tensors_of[f"layers.{number}.weight"].T)
        packed[f"b{number}"] = tensors_of[f"layers.{number}.bias"]
    np.savez(folder / "digits.npz", allow_pickle=False, **packed)


@contextmanager
def server(
    command: list[str], log: Path, port: int, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server on core 0 until the end of the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - a command of ours
            command,
            env={**child_environment(), "OPENBLAS_NUM_THREADS": "1", **environment},
            stdout=output,
            stderr=output,
            preexec_fn=lambda: pin(0),
        )
    try:
        _wait_for(port, process, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit(log.read_text()[-3000:])
        try:
            httpx.get(f"http://127.0.0.1:{port}/v2/health/live", timeout=5)
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"{process.args!r} does not answer")


def pin(core: int) -> None:
    """Keep this process on one core."""
    os.sched_setaffinity(0, {core})


def ask(side: Side, rows: int, connections: int, seconds: float) -> Any:
    """Ask one side for a while."""
    values = np.random.default_rng(0).integers(0, 17, (rows, 64)).astype(float).tolist()
    with tempfile.NamedTemporaryFile() as file:
        file.write(side.request(values))
        file.flush()
        asked = subprocess.run(  # noqa: S603 - a command of ours
            [sys.executable, "-m", "benchmarks.load", str(side.port), str(connections)]
            + [str(seconds), file.name],
            preexec_fn=lambda: pin(1),
            capture_output=True,
            text=True,
            check=False,
        )
    if asked.returncode:
        raise SystemExit(f"port {side.port}: {asked.stderr}")
    return json.loads(asked.stdout)


@contextmanager
def ours(home: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Serve what is in a home."""
    port = servers.free_port()
    environment = child_environment(home=str(home), port=str(port), api_keys=json.dumps(KEYS))
    command = [sys.executable, "-m", "app.cli", "api"]
    with server(command, home / "log", port, **environment) as process:
        yield port, process


def sides(stack: ExitStack, peers: Path, home: Path) -> dict[str, Side]:
    """Start all servers; return how to ask them."""
    caller, model = trained(home)
    hand_over(caller, model, home)
    port, _ = stack.enter_context(ours(home))
    script = str(Path(__file__).with_name("serving_peers.py"))
    fast, ml = servers.free_port(), servers.free_port()
    path = {"PYTHONPATH": str(peers / "fastapi")}
    command = [sys.executable, script, "fastapi", str(home), str(fast)]
    stack.enter_context(server(command, home / "fastapi.log", fast, **path))
    path = {"PYTHONPATH": str(peers / "mlserver")}
    subprocess.run(  # noqa: S603 - a command of ours
        [sys.executable, script, "mlserver", str(home), str(ml)],
        env={**child_environment(), **path},
        check=True,
    )
    start = "import sys; from mlserver.cli import main; sys.argv[0] = 'mlserver'; main()"
    command = [sys.executable, "-c", start, "start", str(home)]
    stack.enter_context(server(command, home / "mlserver.log", ml, **path))
    whole = f"/v2/models/{model}/infer"
    return {
        "predict": Side(port, instances(f"/v1/models/{model}/predict")),
        "FastAPI": Side(fast, instances("/v1/models/digits/predict")),
        "infer": Side(port, tensors(whole, "input", "probabilities")),
        "infer, binary": Side(port, binary(whole)),
        "MLServer": Side(ml, tensors("/v2/models/digits/infer", "x", "predict_proba")),
    }


def compare(peers: Path, *, rounds: int, seconds: float, quick: bool) -> None:
    """Print a table of all sides."""
    cells = [(1, 8)] if quick else [(r, c) for r in ROWS for c in CONNECTIONS]
    found: dict[tuple[str, int, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        asked = sides(stack, peers, Path(folder))
        loads = []
        for _ in range(rounds):
            for rows, connections in cells:
                for name, side in asked.items():
                    took = ask(side, rows, connections, seconds)
                    found.setdefault((name, rows, connections), []).append(took)
                    loads.append(os.getloadavg()[0])
    median = {
        key: {what: statistics.median(each[what] for each in took) for what in took[0]}
        for key, took in found.items()
    }
    print(f"load {min(loads):.1f} to {max(loads):.1f}, {rounds} rounds of {seconds} s\n")
    show(median, cells, list(asked))


def show(median: Mapping[Any, dict[str, float]], cells: list[Any], names: list[str]) -> None:
    """Print the table, and how many times the peers' rates ours are."""
    head = [*names, "predict / FastAPI", "infer / MLServer", "predict / MLServer"]
    print("| rows, connections | " + " | ".join(head) + " |")
    print("| --- |" + " ---: |" * len(head))
    for rows, connections in cells:
        of = {name: median[name, rows, connections] for name in names}
        shown = [
            f"{each['rate']:,.0f} · {each['p50']:.2f} / {each['p99']:.2f}" for each in of.values()
        ]
        for mine, theirs in (
            ("predict", "FastAPI"),
            ("infer", "MLServer"),
            ("predict", "MLServer"),
        ):
            shown.append(f"{of[mine]['rate'] / of[theirs]['rate']:.1f}")
        print(f"| {rows:,}, {connections} | " + " | ".join(shown) + " |")


def memory() -> None:
    """Print what our process has in memory after many predictions, and after many models."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        caller, model = trained(home)
        layers = [{"type": "dense", "units": 450}] * 2
        training = {"epochs": 1}
        large = caller.model(
            caller.dataset(DIGITS), "digit", network={"layers": layers}, training=training
        )
        ids, size = copies(caller, large)
        rows = [[float(n % 17) for n in range(64)]]
        with ours(home) as (port, process):
            side = Side(port, instances(f"/v1/models/{model}/predict"))
            done = 0.0
            while done < PREDICTIONS:
                done += 5 * ask(side, 1, 8, 5)["rate"]
                print(f"{done:9,.0f} predictions: {resident_mib(process):.1f} MiB")
            headers = {"Authorization": f"Bearer {KEY}"}
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers) as client:
                for turn in (1, 2):
                    for each in ids:
                        asked = client.post(f"/v1/models/{each}/predict", json={"instances": rows})
                        asked.raise_for_status()
                    said = f"{len(ids)} models of {size / 1e6:.2f} MB, turn {turn}"
                    print(f"{said}: {resident_mib(process):.1f} MiB")


def copies(caller: Caller, model: str) -> tuple[list[str], int]:
    """Add a model many times over; return the ids, and the bytes of each."""
    database = parts(caller.app).database
    with database.writing() as session:
        row = trained_models.get(session, "ada", model)
        data = artifacts.read(session, row.artifact_id)
        load_model(data)
        same = ("owner", "job_id", "task", "inputs", "outputs", "classes", "metrics", "parameters")
        known = {name: getattr(row, name) for name in same}
        return [trained_models.add(session, data=data, **known) for _ in range(MODELS)], len(data)


def resident_mib(process: subprocess.Popen[bytes]) -> float:
    """Return what the process that answers has in memory."""
    [worker] = [p for p in psutil.Process(process.pid).children() if "resource" not in p.name()][
        -1:
    ]
    return float(worker.memory_info().rss / 2**20)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("peers", type=Path, help="the folder of the peers' packages")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="for which each is asked")
    parser.add_argument("--quick", action="store_true", help="one row and 8 connections alone")
    parser.add_argument("--memory", action="store_true", help="memory alone")
    chosen = parser.parse_args()
    if chosen.memory:
        memory()
    else:
        rounds, seconds = chosen.rounds, chosen.seconds
        compare(chosen.peers.absolute(), rounds=rounds, seconds=seconds, quick=chosen.quick)


if __name__ == "__main__":
    main()
