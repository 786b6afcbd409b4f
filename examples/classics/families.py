"""Family trees: 104 questions about two families of twelve, one English and one Italian."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from engine.arrays import Labels, Matrix
from examples.classics.tasks import Task

COUPLES = (
    ("Christopher", "Penelope"),
    ("Andrew", "Christine"),
    ("Arthur", "Margaret"),
    ("James", "Victoria"),
    ("Charles", "Jennifer"),
)
"""Husband and wife."""

CHILDREN = {
    "Christopher": ("Arthur", "Victoria"),
    "Andrew": ("James", "Jennifer"),
    "James": ("Colin", "Charlotte"),
}
"""By father."""

ITALIANS = {
    "Christopher": "Roberto",
    "Penelope": "Maria",
    "Andrew": "Pierro",
    "Christine": "Francesca",
    "Arthur": "Emilio",
    "Margaret": "Gina",
    "James": "Marco",
    "Victoria": "Lucia",
    "Charles": "Tomaso",
    "Jennifer": "Angela",
    "Colin": "Alfonso",
    "Charlotte": "Sophia",
}
"""Who has the same place in the other family."""

ENGLISH = tuple(ITALIANS)
PEOPLE = (*ENGLISH, *ITALIANS.values())
MEN = {*(husband for husband, _ in COUPLES), "Colin"}
SPOUSE = dict(COUPLES) | {wife: husband for husband, wife in COUPLES}
FATHER = {child: father for father, children in CHILDREN.items() for child in children}

HELD_OUT = 4
"""Questions that a network is not taught."""

OFF, ON = (0.0, 0.2), (0.8, 1.0)
"""What an output may be to be right: there is no error beyond 0.2 and 0.8."""

ANYTHING = (0.0, 1.0)


def parents(person: str) -> set[str]:
    """Return both, or none."""
    father = FATHER.get(person)
    return {father, SPOUSE[father]} if father else set()


def siblings(person: str) -> set[str]:
    """Return those with the same parents."""
    return set(CHILDREN.get(FATHER.get(person, ""), ())) - {person}


def parents_siblings(person: str) -> set[str]:
    """Return uncles and aunts, also by marriage."""
    by_blood = {sibling for parent in parents(person) for sibling in siblings(parent)}
    return by_blood | {SPOUSE[sibling] for sibling in by_blood}


def related_to(person: str, relation: Callable[[str], set[str]]) -> set[str]:
    """Return all whose relation the person is."""
    return {other for other in ENGLISH if person in relation(other)}


RELATIVES: dict[tuple[str, str], Callable[[str], set[str]]] = {
    ("husband", "wife"): lambda person: related_to(person, lambda p: {SPOUSE.get(p, "")}),
    ("father", "mother"): parents,
    ("son", "daughter"): lambda person: related_to(person, parents),
    ("brother", "sister"): siblings,
    ("uncle", "aunt"): parents_siblings,
    ("nephew", "niece"): lambda person: related_to(person, parents_siblings),
}
"""What a man and what a woman of each kind is called."""

RELATIONS = tuple(name for names in RELATIVES for name in names)


def english_answers() -> dict[tuple[str, str], set[str]]:
    """Return who is which relation of whom, by person and relation, where there is anyone."""
    answers = {}
    for person, ((man, woman), relatives) in product(ENGLISH, RELATIVES.items()):
        answers[person, man] = relatives(person) & MEN
        answers[person, woman] = relatives(person) - MEN
    return {question: people for question, people in answers.items() if people}


def all_answers() -> dict[tuple[str, str], set[str]]:
    """Return the answers of both families."""
    english = english_answers()
    italian = {
        (ITALIANS[person], relation): {ITALIANS[answer] for answer in people}
        for (person, relation), people in english.items()
    }
    return english | italian


ANSWERS = all_answers()
assert len(ANSWERS) == 104  # noqa: S101 - as many as the paper has


def one_hot(names: list[str], all_names: tuple[str, ...]) -> Matrix:
    """Return a row for each name, with a 1 at its place."""
    return (np.array(names)[:, None] == np.array(all_names)).astype(float)


def family_trees() -> Task:
    """A person and a relation are given; all people are asked for who stand in it."""
    people, relations = (list(names) for names in zip(*ANSWERS, strict=True))
    inputs = np.column_stack([one_hot(people, PEOPLE), one_hot(relations, RELATIONS)])
    right = np.array([[name in answer for name in PEOPLE] for answer in ANSWERS.values()])
    low, high = (np.where(right, on, off) for on, off in zip(ON, OFF, strict=True))
    return Task(inputs, low, high)


TREES = family_trees()


def held_out(rng: np.random.Generator) -> Labels:
    """Draw the questions that are kept for the end."""
    return rng.choice(len(ANSWERS), HELD_OUT, replace=False)


def all_but_some(rng: np.random.Generator) -> Task:
    """Return the task, in which the questions held out have no wrong answer: they teach nothing."""
    low, high, kept = TREES.low.copy(), TREES.high.copy(), held_out(rng)
    low[kept], high[kept] = ANYTHING
    return Task(TREES.inputs, low, high)
