"""Ask how well files train as they are.

Each is uploaded with no options, and trained on with no more than `dataset` and `target`.

FOLDER has files and a ``manifest.json`` of ``{"datasets": [{"file": …, "target": …}]}``, in which
a target is a name or a list of names. Without one, every file of the folder is taken, and the
target is what ``--target`` says. The service is started with its defaults, or is the one at
``--url``. What is printed is a table in Markdown; the metric is that of the rows to validate on,
and the baseline what the most frequent class, or the mean, would have on all rows.
``python -m benchmarks.real_files FOLDER [--target NAME] [--url URL]``
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from tests import servers
from tests.e2e.services import Caller, Command

HEAD = "| file | rows × columns | sniffed | columns | metric | baseline | seconds |\n"
LINE = "| --- | ---: | --- | --- | ---: | ---: | ---: |"
JOB_SECONDS = 1800
Target = str | list[str]


@contextmanager
def service(url: str | None) -> Iterator[Caller]:
    """Start the service with its defaults, unless there is one already."""
    with ExitStack() as stack:
        if url is None:
            home = stack.enter_context(tempfile.TemporaryDirectory())
            environment = {"CHAINRULE_HOME": home, "CHAINRULE_PORT": str(servers.free_port())}
            command = Command("serve", environment)
            stack.callback(command.end)
            url = command.url
        caller = stack.enter_context(Caller(base_url=url, timeout=60))
        caller.wait_until_ready()
        yield caller


def wanted(folder: Path, target: str | None) -> list[tuple[Path, Target]]:
    """Return the files and what is to be learnt of each."""
    manifest = folder / "manifest.json"
    if manifest.exists():
        listed = json.loads(manifest.read_text())["datasets"]
        return [(folder / each["file"], each["target"]) for each in listed]
    if target is None:
        raise SystemExit("the folder has no manifest.json; say --target")
    return [(file, target) for file in sorted(folder.iterdir()) if file.is_file()]


def line(caller: Caller, file: Path, target: Target) -> str:
    """Upload a file and train on it; return its line of the table."""
    with file.open("rb") as content:
        answer = caller.post("/v1/datasets", files={"file": (file.name, content)})
    dataset = answer.json()
    if not answer.is_success:
        return _row(file.name, "", "refused", dataset["detail"])
    size = f"{dataset['rows']:,} × {len(dataset['columns'])}"
    answer = caller.post("/v1/jobs", json={"dataset": dataset["id"], "target": target})
    job = answer.json()
    if not answer.is_success:
        return _row(file.name, size, _sniffed(dataset), f"refused: {job['detail']}")
    job = caller.wait_for(job["id"], "succeeded", "failed", seconds=JOB_SECONDS)
    if job["model"] is None:
        return _row(file.name, size, _sniffed(dataset), f"failed: {job['error']['detail']}")
    model = caller.get(f"/v1/models/{job['model']}").json()
    times = [datetime.fromisoformat(job[name]) for name in ("started_at", "finished_at")]
    seconds = (times[1] - times[0]).total_seconds()
    metric, baseline = _metric(dataset, model, target)
    return _row(
        file.name, size, _sniffed(dataset), _done(job, model), metric, baseline, f"{seconds:.1f}"
    )


def _row(*cells: str) -> str:
    return "| " + " | ".join([*cells, *[""] * (7 - len(cells))]) + " |"


def _sniffed(dataset: dict[str, Any]) -> str:
    """Say in which format a file is, how it is written, and of which types its columns are."""
    said = dataset["sniffed"] or {}
    words = [dataset["format"]]
    if "delimiter" in said:
        words += [said["encoding"], f"`{said['delimiter']}`"]
    types = Counter(column["type"] for column in dataset["columns"])
    return " ".join(words) + ": " + _counted(types)


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def _done(job: dict[str, Any], model: dict[str, Any]) -> str:
    """Say what became of the columns."""
    done = Counter(_treatment(said) for said in model["preprocessing"])
    left_out = [
        f"`{name}` left out"
        for name, c in job["spec"]["columns"].items()
        if c.get("encode") == "drop"
    ]
    return "; ".join([_counted(done), *left_out, f"target {_target(model)}"])


def _treatment(said: dict[str, Any]) -> str:
    words = [said["type"] if said["encode"] is None else said["encode"].replace("_", "-")]
    if said["scale"] is not None and said["encode"] != "one_hot":
        words.append(f"({said['scale']})")
    if said.get("missing_flag"):
        words.append(f"with missing → {said['impute']} and a flag")
    return " ".join(words)


def _target(model: dict[str, Any]) -> str:
    if model["classes"] is None:
        return "scaled"
    classes = list(map(str, model["classes"]))
    names = ", ".join(classes[:3]) + (" …" if len(classes) > 3 else "")
    return f"{len(classes)} classes ({names})"


def _metric(dataset: dict[str, Any], model: dict[str, Any], target: Target) -> tuple[str, str]:
    """Return how good the model is on rows that it was not trained on, and what is no art."""
    names = target if isinstance(target, list) else [target]
    columns = [column for column in dataset["columns"] if column["name"] in names]
    metrics = model["metrics"]
    if model["classes"] is not None:
        [column] = columns
        share = column["top"][0][1] / (dataset["rows"] - column["missing"])
        return f"accuracy {_of(metrics, 'accuracy'):.3f}", f"{share:.3f}"
    spread = (sum(column["std"] ** 2 for column in columns) / len(columns)) ** 0.5
    said = f"RMSE {_of(metrics, 'rmse'):.4g}, R² {_of(metrics, 'r2'):.3f}"
    return said, f"{spread:.4g}, 0"


def _of(metrics: dict[str, float], name: str) -> float:
    return metrics.get(f"validation_{name}", metrics.get(name, float("nan")))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", help="of every file, where there is no manifest")
    parser.add_argument("--url", help="of a service that runs already")
    asked = parser.parse_args()
    files = wanted(asked.folder, asked.target)
    with service(asked.url) as caller:
        print(HEAD + LINE, flush=True)
        for file, target in files:
            print(line(caller, file, target), flush=True)


if __name__ == "__main__":
    main()
