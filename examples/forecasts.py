"""Forecast airline passengers and sunspots over HTTP, a year ahead, with an interval.

Start the service with ``make serve``, then run ``.venv/bin/python examples/forecasts.py [URL]``.
With a file name after the URL the last year of each series is drawn into it, as SVG.
"""

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import matplotlib as mpl
from matplotlib.figure import Figure

DATA = Path(__file__).parent / "data"
HORIZON, SHOWN = 12, 72
QUANTILES = [0.1, 0.5, 0.9]


@dataclass(frozen=True)
class Series:
    """A file of monthly values, and how many of them a forecast is made from."""

    file: str
    target: str
    window: int

    @property
    def values(self) -> list[float]:
        """What was measured, month by month."""
        with (DATA / self.file).open() as rows:
            return [float(row[self.target]) for row in csv.DictReader(rows)]


ALL = (
    Series("airline_passengers.csv", "passengers", 24),
    Series("sunspots_monthly.csv", "sunspots", 132),
)


def main(url: str, chart: str | None) -> None:
    """Forecast each series by the service at ``url``, and say what it is measured by."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    with httpx.Client(base_url=url, timeout=90) as client:
        for place, series in enumerate(ALL):
            forecast = compared(client, series)
            draw(figure, place, series, forecast)
    if chart is not None:
        with mpl.rc_context({"svg.hashsalt": "forecasts", "svg.fonttype": "none"}):
            figure.savefig(chart, format="svg", metadata={"Date": None})


def compared(client: httpx.Client, series: Series) -> dict:
    """Train in both ways, print what each gets, and return the forecast of the last year."""
    with (DATA / series.file).open("rb") as file:
        dataset = checked(client.post("/v1/datasets", files={"file": (series.file, file)}))
    interval = {"type": "quantile", "quantiles": QUANTILES}
    direct = trained(client, dataset["id"], series, "direct", interval)
    recursive = trained(client, dataset["id"], series, "recursive", "squared_error")
    found = direct["metrics"]
    print(f"{series.target}: {dataset['rows']} months, of which {HORIZON} are forecast at a time")
    print(f"  last value      {found['last_value_mae']:6.1f}  mean absolute error")
    print(f"  seasonal naive  {found['seasonal_naive_mae']:6.1f}")
    print(f"  recursive       {recursive['metrics']['mae']:6.1f}")
    print(f"  direct          {found['mae']:6.1f}  {found['coverage']:.0%} within the interval")
    window = series.values[-HORIZON - series.window : -HORIZON]
    body = {"instances": [{"sequence": [[value] for value in window]}]}
    answer = checked(client.post(f"/v1/models/{direct['model']}/predict", json=body))
    return answer["predictions"][0]


def trained(
    client: httpx.Client, dataset: str, series: Series, strategy: str, loss: str | dict
) -> dict:
    """Train a network to forecast a year; return the job."""
    spec = {
        "dataset": dataset,
        "target": series.target,
        "sequence": {
            "order": "month",
            "window": series.window,
            "horizon": HORIZON,
            "strategy": strategy,
        },
        "loss": loss,
        "optimizer": {"type": "adam", "learning_rate": 0.003},
        "training": {"stop": {"patience": 10}},
    }
    job = checked(client.post("/v1/jobs", json=spec))
    job = checked(client.get(f"/v1/jobs/{job['id']}", params={"wait": 60}))
    if job["status"] != "succeeded":
        sys.exit(f"{job['status']}: {job['error']}")
    return job


def draw(figure: Figure, place: int, series: Series, forecast: dict) -> None:
    """Draw what was measured, and what was forecast of the last year."""
    axes = figure.add_subplot(1, len(ALL), place + 1, xlabel="month", title=series.target)
    months, ahead = range(SHOWN), range(SHOWN - HORIZON, SHOWN)
    low, _, high = forecast["quantiles"].values()
    axes.plot(months, series.values[-SHOWN:], "k.-", linewidth=0.8, label="measured")
    axes.plot(ahead, forecast["value"], color="C0", label="forecast")
    axes.fill_between(ahead, low, high, color="C0", alpha=0.25, label="from 0.1 to 0.9")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()


def checked(response: httpx.Response) -> dict:
    """Return the answer, or end with what the service says is wrong."""
    if response.is_error:
        sys.exit(response.json()["detail"])
    return response.json()


if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
    main(address, sys.argv[2] if len(sys.argv) > 2 else None)
