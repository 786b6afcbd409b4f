"""The demo: handwritten digits are learnt over HTTP, as any client of the service would do it."""

from __future__ import annotations

import csv
import gzip
import io
import random
import signal
import time
from pathlib import Path
from typing import Any, NoReturn

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from app import launcher
from app.config import Settings, child_environment

DIGITS = Path(__file__).parent.parent / "examples" / "data" / "digits.csv.gz"
TARGET = "digit"
SIDE = 8
JOB: dict[str, Any] = {
    "name": "digits",
    "target": TARGET,
    "task": "classification",
    "network": {
        "layers": [
            {"type": "dense", "units": 128, "activation": "relu"},
            {"type": "dense", "units": 64, "activation": "relu"},
        ]
    },
    "optimizer": {"type": "adam", "learning_rate": 0.001},
    "training": {"epochs": 60, "batch_size": 32},
    "validation": {"fraction": 0.1},
    "seed": 7,
}
START_SECONDS = 60.0
SHOWN, SHOWN_IN_A_LINE = 10, 5
SHADES = " ░▒▓█"

Row = dict[str, str]


class DemoError(Exception):
    """The demo cannot go on."""


def run(settings: Settings) -> int:
    """Start the service, train, predict and draw; leave no process behind."""
    console = Console(highlight=False)
    if not launcher.is_free(settings.host, settings.port):
        settings = launcher.with_free_port(settings)
    log = settings.home / "demo.log"
    with log.open("wb") as output, launcher.interrupted(_interrupt):
        supervisor = launcher.Supervisor(
            {"api": launcher.api_command(settings), "worker": launcher.worker_command()},
            child_environment(),
            output,
        )
        try:
            supervisor.start()
            _show(console, supervisor, settings)
        except KeyboardInterrupt:
            console.print("\ninterrupted")
            return 130
        except (DemoError, httpx.HTTPError) as error:
            console.print(f"[red]{error}[/] The log is in {log}.")
            return 1
        finally:
            _stop_listening()
            supervisor.end()
    return 0


def _interrupt() -> NoReturn:
    _stop_listening()
    raise KeyboardInterrupt


def _stop_listening() -> None:
    """Have whoever is impatient wait for the end all the same: it leaves no process behind."""
    for number in launcher.INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)


def _show(console: Console, supervisor: launcher.Supervisor, settings: Settings) -> None:
    url = f"http://{settings.host}:{settings.port}"
    console.print(f"[bold]Chainrule[/] starts on {url}: an API and a worker, real processes.")
    with httpx.Client(base_url=url, timeout=30, headers=_key(settings)) as client:
        _wait_until_ready(client, supervisor)
        training, held_out = _split(_read_digits())
        console.print(
            f"{len(training) + len(held_out):,} handwritten digits of {SIDE}×{SIDE} pixels; "
            f"a fifth, {len(held_out)}, is held out."
        )
        dataset = _upload(client, "digits-training.csv", training)
        test = _upload(client, "digits-held-out.csv", held_out)
        job = _follow(console, client, _checked(client.post("/v1/jobs", json={**JOB, **dataset})))
        _print_curve(console, client, job)
        measured = _checked(client.post(f"/v1/models/{job['model']}/evaluate", json=test))
        accuracy = measured["metrics"]["accuracy"]
        console.print(f"[bold green]{accuracy:.1%}[/] of the held-out digits are read correctly.\n")
        _draw_predictions(console, client, job["model"], held_out[:SHOWN])
    _say_how_to_go_on(console, settings, job["model"], held_out[0])


def _key(settings: Settings) -> dict[str, str]:
    """Return the header with the first owner's key, where there are keys."""
    for key in settings.api_keys.values():
        return {"Authorization": f"Bearer {key.get_secret_value()}"}
    return {}


def _wait_until_ready(client: httpx.Client, supervisor: launcher.Supervisor) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and supervisor.alive():
        try:
            if client.get("/healthz/ready").is_success:
                return
        except httpx.TransportError:
            pass  # it does not listen yet
        time.sleep(0.1)
    raise DemoError("the service did not start.")


def _checked(response: httpx.Response) -> Any:
    """Return the answer's JSON, or stop with the problem's detail."""
    if response.is_error:
        raise DemoError(f"{response.request.url.path}: {response.json().get('detail')}")
    return response.json()


def _read_digits() -> list[Row]:
    with gzip.open(DIGITS, "rt", newline="") as file:
        return list(csv.DictReader(file))


def _split(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """Divide the rows at random: four fifths to train on, a fifth to test on."""
    rows = random.Random(JOB["seed"]).sample(rows, len(rows))  # noqa: S311 - not for secrets
    held_out = len(rows) // 5
    return rows[held_out:], rows[:held_out]


def _upload(client: httpx.Client, name: str, rows: list[Row]) -> dict[str, str]:
    """Upload rows as CSV; return the field by which requests name the dataset."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    sent = {"file": (name, text.getvalue().encode(), "text/csv")}
    return {"dataset": _checked(client.post("/v1/datasets", files=sent))["id"]}


def _follow(console: Console, client: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    """Draw a bar until the job has ended."""
    columns = (
        TextColumn("training"),
        BarColumn(bar_width=30),
        TextColumn("epoch {task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=job["progress"]["epochs"], figures="")
        while True:
            bar.update(task, completed=job["progress"]["epoch"], figures=_figures(job["metrics"]))
            if job["status"] in ("succeeded", "failed", "cancelled"):
                break
            time.sleep(0.1)
            job = _checked(client.get(f"/v1/jobs/{job['id']}"))
    if job["status"] != "succeeded":
        raise DemoError(f"the job is {job['status']}: {job['error']}")
    return job


def _figures(metrics: dict[str, float]) -> str:
    names = {"train_loss": "loss", "accuracy": "validation accuracy"}
    return "  ".join(f"{names[key]} {metrics[key]:.3f}" for key in names if key in metrics)


def _print_curve(console: Console, client: httpx.Client, job: dict[str, Any]) -> None:
    points = _checked(client.get(f"/v1/jobs/{job['id']}/curve"))["points"]
    for point in (points[0], points[-1]):
        console.print(
            f"  epoch {point['epoch']:>2}: training loss {point['train_loss']:.4f}, "
            f"validation loss {point['validation_loss']:.4f}"
        )


def _draw_predictions(console: Console, client: httpx.Client, model: str, rows: list[Row]) -> None:
    instances = [{name: int(row[name]) for name in row if name != TARGET} for row in rows]
    answer = _checked(client.post(f"/v1/models/{model}/predict", json={"instances": instances}))
    pictures = [
        _picture(row, prediction)
        for row, prediction in zip(rows, answer["predictions"], strict=True)
    ]
    for start in range(0, len(pictures), SHOWN_IN_A_LINE):
        for lines in zip(*pictures[start : start + SHOWN_IN_A_LINE], strict=True):
            console.print("".join(lines).rstrip(), overflow="crop", no_wrap=True)
        console.print()


def _picture(row: Row, prediction: dict[str, Any]) -> list[str]:
    """Draw a digit, and below it what was predicted; each line is as wide as the picture."""
    lines = []
    for line in range(SIDE):
        values = [int(row[f"p{line}{column}"]) for column in range(SIDE)]
        lines.append("".join(2 * SHADES[value * (len(SHADES) - 1) // 16] for value in values))
    label, truth = prediction["label"], row[TARGET]
    verdict = f"is a {label}" if str(label) == truth else f"{label}? no, {truth}"
    sure = prediction["probabilities"][str(label)]
    return [*lines, f"{verdict} ({sure:.0%})".center(2 * SIDE)]


def _say_how_to_go_on(console: Console, settings: Settings, model: str, row: Row) -> None:
    url = f"http://{settings.host}:{settings.port}"
    pixels = ",".join(value for name, value in row.items() if name != TARGET)
    console.print(
        f"""\
The demo ends here and its processes with it; what it made is in {settings.home.resolve()}.
Go on with [bold]make serve[/], then

  curl {url}/v1/jobs
  curl {url}/v1/models/{model}
  curl {url}/v1/models/{model}/predict -H 'Content-Type: application/json' \\
    -d '{{"instances": [[{pixels}]]}}'

The API is at {url}/v1, its docs at {url}/docs.""",
        markup=True,
        soft_wrap=True,
    )
