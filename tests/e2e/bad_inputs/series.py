"""Bad series, and layers that cannot settle: refused at once, or the job fails and says why."""

from __future__ import annotations

from typing import Any

import httpx

from tests.e2e.bad_inputs.files import lines
from tests.e2e.bad_inputs.rows import CSV, DATASETS, Row, World, spec
from tests.e2e.services import Caller

WINDOW = {"order": "t", "window": 3}
QUICK = {"network": {"layers": []}, "training": {"epochs": 1}}
STEPS = lines("t,x", *(f"{n},{n}.5" for n in range(8)))


def forecaster(caller: Caller) -> str:
    """Train a model that forecasts the ninth step of a series of eight; return its id."""
    body = {"target": "x", "sequence": WINDOW, **QUICK}
    job = caller.submit(_uploaded(caller, STEPS), **body)
    return str(caller.wait_for(job, "succeeded", "failed")["model"])


def _uploaded(caller: Caller, table: bytes) -> str:
    made = caller.post(DATASETS, content=table, headers={"Content-Type": CSV})
    return str(made.json()["id"])


def ordered(
    name: str, table: bytes, says: str, pointer: str | None = None, /, **sequence: Any
) -> Row:
    """Train on series that are good to upload: refused, or, without a pointer, the job fails."""
    target = "x" if "window" in sequence else "y"
    body = {"target": target, "sequence": {"order": "t", **sequence}, **QUICK}

    def send(w: World) -> httpx.Response:
        made = _uploaded(w.ada, table)
        try:
            return tried(w.ada, made, **body)
        finally:
            w.ada.delete(f"{DATASETS}/{made}")

    return Row(111, name, send, 200 if pointer is None else 422, says, pointer)


def tried(caller: Caller, dataset: str, **body: Any) -> httpx.Response:
    """Submit a job; return the refusal, or how the job failed, which is then deleted."""
    answer = caller.post("/v1/jobs", json={"dataset": dataset, **body})
    if answer.is_success:
        job = f"/v1/jobs/{answer.json()['id']}"
        caller.wait_for(answer.json()["id"], "failed", "succeeded")
        answer = caller.get(job)
        caller.delete(job)
    return answer


def asked(name: str, rows: list[Any], pointer: str, says: str) -> Row:
    """Have the model of series forecast what comes after some rows."""
    body = {"instances": [{"sequence": rows}]}

    def send(w: World) -> httpx.Response:
        return w.ada.post(f"/v1/models/{w.forecaster}/predict", json=body)

    return Row(111, name, send, 422, says, f"/instances/0/sequence{pointer}")


def settled(name: str, says: str, place: str, **options: Any) -> Row:
    """Post a layer whose units see each other."""
    network = {"layers": [{"type": "equilibrium", "units": 30, **options}]}
    return spec(112, name, f"/network/layers/0/{place}", says, network=network)


def unsettled(w: World) -> httpx.Response:
    """Train with steps by which the weights between units grow until nothing settles."""
    layer = {"type": "equilibrium", "units": 30, "activation": "tanh", "damping": 0}
    return tried(
        w.ada,
        **w.spec(network={"layers": [layer]}, optimizer={"type": "sgd", "learning_rate": 1}),
    )


SERIES = [
    ordered(
        "a series of one row",
        lines("t,x", "1,2.5"),
        "has 1 row, window",
        "/sequence/window",
        window=1,
    ),
    ordered(
        "a window as long as the series",
        STEPS,
        "the longest series has 8 rows, window + horizon is 9; use a smaller",
        "/sequence/window",
        window=8,
    ),
    ordered("a window of 0", STEPS, "expected at least 1, got 0", "/sequence/window", window=0),
    ordered(
        "a window as long as the longest of two series",
        lines("s,t,x", *(f"{n % 2},{n},{n}.5" for n in range(8))),
        "the longest series has 4 rows, window + horizon is 5; use a smaller",
        "/sequence/window",
        group="s",
        window=4,
    ),
    ordered(
        "an order of words",
        lines("t,x", *(f"{each},2.5" for each in ("a", "b", "c") * 2)),
        "number, integer, timestamp would do",
        "/sequence/order",
        window=1,
    ),
    ordered(
        "an order that is missing in a row",
        lines("t,x", "1,2.5", ",3.5", "3,1.5"),
        "1 missing, the first in row 2",
        "/sequence/order",
        window=1,
    ),
    ordered(
        "two rows in one place of the one series",
        lines("t,x", "1,2.5", "2,3.5", "1,4.5", "3,1.5"),
        "3 different values in 4 rows; every row of a series needs a place of its own; name the "
        "column that tells series apart in `group`; rows of one place are 1 and 3",
        "/sequence/order",
        window=1,
    ),
    ordered(
        "two rows in one place of a series: the job fails",
        lines("s,t,x", "a,1,2.5", "a,2,3.5", "a,1,4.5", "b,1,0.5"),
        "column 't' has 1 twice in series 'a': rows of one place are 1 and 3",
        group="s",
        window=1,
    ),
    ordered(
        "a gap in every window: the job fails",
        lines("t,x", "1,2.5", "2,3.5", "3,1.5", "14,4.5"),
        "from 3 to 14 (rows 3 and 4)",
        window=3,
    ),
    ordered(
        "a series of two classes: the job fails",
        lines("s,t,x,y", "a,1,2.5,u", "a,2,3.5,v", "b,1,4.5,v", "b,2,0.5,v"),
        "more than one value in 1 series, such as series 'a', rows 1 and 2",
        group="s",
    ),
    ordered(
        "series of unequal length without a mask",
        lines("s,t,x,y", "a,1,2.5,u", "a,2,3.5,u", "b,1,4.5,v"),
        "series differ in length from 2; only with a mask they may",
        "/sequence/mask",
        group="s",
        mask=False,
    ),
    asked("no rows to forecast from", [], "", "expected 3 rows or more, got 0"),
    asked("one row to forecast from", [[1.5]], "", "expected 3 rows or more, got 1"),
    asked("rows of unequal length", [[1.5], [1.5], [1.5, 2.5]], "/2", "expected 1 values"),
    asked("rows in which all is missing", [[None]] * 3, "", "expected a value of 'x' in some row"),
]

LAYERS = [
    settled("tolerance 0", "expected more than 0, got 0", "tolerance", tolerance=0),
    settled(
        "a tolerance below what rounding leaves",
        "float32 may round by more than 1e-09; 1e-06 would do",
        "tolerance",
        tolerance=1e-9,
    ),
    settled("damping 1", "expected less than 1, got 1", "damping", damping=1),
    settled("max_iterations 0", "expected at least 1, got 0", "max_iterations", max_iterations=0),
    Row(
        112,
        "weights of a spectral radius at which nothing settles: the job fails",
        unsettled,
        200,
        "examples settled in the equilibrium layers",
    ),
]

ROWS = [*SERIES, *LAYERS]
