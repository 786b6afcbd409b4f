"""Rows of several requests, predicted at once: NumPy takes as long for one row as for ten."""

from __future__ import annotations

import asyncio

import numpy as np

from engine.arrays import Matrix
from engine.data.scaling import Numbers
from engine.model import Model

MOST_ROWS = 256
"""So many rows are predicted at once, lest the event loop stands still."""

Waiting = list[tuple[Numbers, asyncio.Future[Matrix | None]]]


class Together:
    """Predicts at once what is asked of a model in one turn of the event loop.

    What a row is answered does not depend on the others, as `engine.network.Network.predict` says.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, Waiting] = {}

    async def predict(self, model: Model, values: Numbers) -> Matrix | None:
        """Return what `Model.predict_numbers` does."""
        loop = asyncio.get_running_loop()
        waiting = self._waiting.get(id(model))
        if waiting is None:
            waiting = self._waiting[id(model)] = []
            loop.call_soon(self._answer, model)
        answer: asyncio.Future[Matrix | None] = loop.create_future()
        waiting.append((values, answer))
        return await answer

    def _answer(self, model: Model) -> None:
        asked = self._next(model)
        parts = [values for values, _ in asked]
        answers = _predicted(model, parts) if len(parts) > 1 else None
        for place, (values, answer) in enumerate(asked):
            if answer.done():  # its request is over
                continue
            try:
                y = model.predict_numbers(values) if answers is None else answers[place]
            except Exception as error:  # noqa: BLE001 - it is for the request that waits for it
                answer.set_exception(error)
            else:
                answer.set_result(y)

    def _next(self, model: Model) -> Waiting:
        """Return whose rows are few enough together, or the first; the others wait for a turn."""
        waiting, rows = self._waiting.pop(id(model)), 0
        for place, (values, _) in enumerate(waiting):
            rows += len(values)
            if place and rows > MOST_ROWS:
                self._waiting[id(model)] = waiting[place:]
                asyncio.get_running_loop().call_soon(self._answer, model)
                return waiting[:place]
        return waiting


def _predicted(model: Model, parts: list[Numbers]) -> list[Matrix] | None:
    """Return the answers to all parts, or None if there is one that has to be looked at alone."""
    rows = [len(values) for values in parts]
    try:
        # A network has memory of its own for every power of two.
        filled = np.zeros((1 << (sum(rows) - 1).bit_length(), parts[0].shape[1]))
        np.concatenate(parts, out=filled[: sum(rows)])
        y = model.predict_numbers(filled)
    except Exception:  # noqa: BLE001 - each is predicted alone, and told what is wrong with it
        return None
    return None if y is None else np.split(y[: sum(rows)], np.cumsum(rows[:-1]))
