"""Tables whose answer rests on one part of one value, and which part that is: of every column type.

In a third of the rows nothing stands that could decide, and the answer says so: else a model could learn one mark, and
answer the other class wherever it does not see it.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from onetrunk.core.config import with_settings
from onetrunk.core.events import Note

if TYPE_CHECKING:
    from bench.common import Run
    from onetrunk.core.parts import Parts
    from onetrunk.explanation.attribution import Attribution
    from onetrunk.explanation.question import Question
    from onetrunk.inference.model_folder import Model

ANSWER, NEITHER = "answer", "neither"
_OTHERS = ("other 1", "other 2", "other 3")  # columns that say nothing
TRUNK = {"kind": "transformer", "width": 64, "layers": 2, "heads": 4}
_SEEN = {"train": 0.7, "val": 0.15, "test": 0.15}

IsCause = Callable[[str, "Parts", int], bool]  # is part k of a column the cause?


@dataclass(frozen=True)
class World:
    """Rows of given columns, what is asked of them, and of each row whether a part is its cause."""

    columns: dict[str, list[Any]]
    types: dict[str, str]
    answers: list[str]
    is_cause: list[IsCause]
    options: dict[str, dict[str, Any]] = field(default_factory=dict)


def world(kind: str, rows: int, seed: int = 0) -> World:
    """Of a column type."""
    return WORLDS[kind](np.random.default_rng([seed, sum(map(ord, kind))]), rows)


def _sides(dice: np.random.Generator, rows: int) -> np.ndarray:
    """0 and 1 have a mark of their own, 2 has none."""
    return dice.integers(0, 3, rows)


def _named(sides: np.ndarray) -> list[str]:
    return [("left", "right", NEITHER)[side] for side in sides]


def _at(index: int) -> IsCause:
    return lambda column, parts, k: parts.labels[k] == parts.labels[index]


def _labelled(words: set[str]) -> IsCause:
    return lambda column, parts, k: any(word in parts.labels[k] for word in words)


def _inside(word: str) -> IsCause:
    """A token of this word, which stands once in the text."""

    def is_cause(column: str, parts: Parts, k: int) -> bool:
        assert parts.spans is not None
        begin = parts.text.index(word)
        a, b = parts.spans[k]
        return a < begin + len(word) and b > begin

    return is_cause


def _of_column(name: str) -> IsCause:
    return lambda column, parts, k: column == name


def _text(dice: np.random.Generator, rows: int) -> World:
    words = ["the", "room", "bed", "view", "hotel", "street", "lamp", "door", "garden", "bread", "river", "window"]
    sides, texts = _sides(dice, rows), []
    for side in sides:
        said = dice.choice(words, 9).tolist()
        said.insert(int(dice.integers(0, 10)), ("splendid", "dreadful", "ordinary")[side])
        texts.append(" ".join(said))
    causes = [_inside(("splendid", "dreadful", "ordinary")[side]) for side in sides]
    return World({"x": texts}, {"x": "text"}, _named(sides), causes)


def _molecule(dice: np.random.Generator, rows: int) -> World:
    """A chain of carbon and oxygen with one halogen."""
    sides, smiles = _sides(dice, rows), []
    for side in sides:
        chain = ["C", *dice.choice(["C", "C", "C", "C(C)"], 7).tolist(), "C"]
        chain[int(dice.integers(1, 8))] = ("C(F)", "C(Br)", "C(C)")[side]
        smiles.append("".join(chain))
    return World({"x": smiles}, {"x": "molecule"}, _named(sides), [_labelled({"F", "Br"})] * rows)


def _columns(kind: str, values: Callable[[np.ndarray], list[Any]]) -> Callable[[np.random.Generator, int], World]:
    """Four columns of single values, of which one decides: `values` makes them of numbers from 0 to 1."""

    def made(dice: np.random.Generator, rows: int) -> World:
        sides = dice.integers(0, 2, rows)
        deciding = (sides + dice.uniform(0.05, 0.95, rows)) / 2
        columns = {"x": values(deciding)} | {name: values(dice.uniform(0, 1, rows)) for name in _OTHERS}
        return World(columns, dict.fromkeys(columns, kind), _named(sides), [_of_column("x")] * rows)

    return made


def _classes(u: np.ndarray) -> list[Any]:
    return ["abcdefgh"[int(8 * x)] for x in u]


def _numbers(u: np.ndarray) -> list[Any]:
    return [round(float(100 * x), 2) for x in u]


def _days(u: np.ndarray) -> list[Any]:
    return [datetime.date(2020, 1, 1) + datetime.timedelta(days=int(1000 * x)) for x in u]


def _image(dice: np.random.Generator, rows: int) -> World:
    """Noise, and in one patch a light or a dark square."""
    sides, at = _sides(dice, rows), dice.integers(0, 16, rows)
    x = dice.integers(90, 166, (rows, 16, 16)).astype(np.uint8)
    for i, (side, k) in enumerate(zip(sides, at, strict=True)):
        y, z = divmod(int(k), 4)
        if side < 2:
            x[i, 4 * y : 4 * y + 4, 4 * z : 4 * z + 4] = (255, 0)[side]
    options = {"x": {"size": 16, "patch": 4, "stem": 8, "rotate": 0, "scale": 0, "shift": 0, "light": 0}}
    return World({"x": list(x)}, {"x": "image"}, _named(sides), [_at(int(k)) for k in at], options)


def _video(dice: np.random.Generator, rows: int) -> World:
    """Noise, and in one patch of one moment a light or a dark square."""
    sides, at = _sides(dice, rows), dice.integers(0, 8, rows)
    x = dice.integers(90, 166, (rows, 4, 8, 8, 1)).astype(np.uint8)
    for i, (side, k) in enumerate(zip(sides, at, strict=True)):
        t, y, z = np.unravel_index(int(k), (2, 2, 2))
        if side < 2:
            x[i, 2 * t : 2 * t + 2, 4 * y : 4 * y + 4, 4 * z : 4 * z + 4] = (255, 0)[side]
    options = {"x": {"frames": 4, "tube": 2, "size": 8, "patch": 4, "stem": 8, "scale": 0, "shift": 0, "light": 0}}
    return World({"x": list(x)}, {"x": "video"}, _named(sides), [_at(int(k)) for k in at], options)


def _audio(dice: np.random.Generator, rows: int) -> World:
    """Soft noise, and in the middle of one part a high or a low note: frames look a little beyond their borders."""
    rate, seconds, parts = 8000, 0.16, 6
    n, sides, at = int(rate * seconds), _sides(dice, rows), dice.integers(1, parts - 1, rows)
    sounds = []
    for side, k in zip(sides, at, strict=True):
        wave = dice.normal(0, 0.01, n * parts).astype(np.float32)
        note = (0.5, 0.5, 0)[side] * np.sin(2 * np.pi * (2400, 500, 0)[side] * np.arange(n) / rate)
        margin = n // 4
        wave[k * n + margin : (k + 1) * n - margin] += note.astype(np.float32)[margin : n - margin]
        sounds.append((rate, wave))
    options = {"x": {"bands": 16, "stem": 4, "step": 16, "speed": 0, "even": False}}
    return World({"x": sounds}, {"x": "audio"}, _named(sides), [_at(int(k)) for k in at], options)


def _series(dice: np.random.Generator, rows: int) -> World:
    """Noise with a step up or down for four points."""
    sides, at = _sides(dice, rows), dice.integers(0, 8, rows)
    x = dice.normal(0, 1, (rows, 32))
    for i, (side, k) in enumerate(zip(sides, at, strict=True)):
        x[i, 4 * k : 4 * k + 4] += (6, -6, 0)[side]
    options = {"x": {"horizon": 4, "length": 28, "patch": 4, "paths": False}}
    causes = [_labelled({f"points {4 * k + 1} to {4 * k + 4}"}) for k in at.tolist()]
    return World({"x": [row.round(3).tolist() for row in x]}, {"x": "series"}, _named(sides), causes, options)


def _items(dice: np.random.Generator, rows: int) -> World:
    sides, baskets = _sides(dice, rows), []
    for side in sides:
        basket = [f"thing {i}" for i in dice.integers(0, 20, 7)]
        basket.insert(int(dice.integers(0, 8)), ("key", "lock", "thing 0")[side])
        baskets.append(basket)
    return World({"x": baskets}, {"x": "items"}, _named(sides), [_labelled({"key", "lock"})] * rows)


def _trace(dice: np.random.Generator, rows: int) -> World:
    sides, lessons = _sides(dice, rows), []
    for side in sides:
        skills = [f"skill {i}" for i in dice.integers(0, 12, 7)]
        skills.insert(int(dice.integers(0, 8)), ("key", "lock", "skill 0")[side])
        lessons.append({"skill": skills, "correct": [bool(b) for b in dice.integers(0, 2, 8)]})
    return World({"x": lessons}, {"x": "trace"}, _named(sides), [_labelled({"key", "lock"})] * rows)


def _boxes(dice: np.random.Generator, rows: int) -> World:
    """Some boxes, one of them of a class that decides."""
    sides, scenes = _sides(dice, rows), []
    for side in sides:
        labels = [*dice.choice(["cup", "plate", "fork", "spoon"], 5).tolist(), ("cat", "dog", "cup")[side]]
        places = dice.integers(0, 80, (6, 2)).tolist()
        scene = [{"label": label, "box": [x, y, 16, 16]} for label, (x, y) in zip(labels, places, strict=True)]
        scenes.append([scene[k] for k in dice.permutation(6)])
    causes = [_labelled({"cat", "dog"})] * rows
    return World({"x": scenes}, {"x": "boxes"}, _named(sides), causes)


WORLDS: dict[str, Callable[[np.random.Generator, int], World]] = {
    "text": _text, "category": _columns("category", _classes), "number": _columns("number", _numbers),
    "date": _columns("date", _days), "image": _image, "audio": _audio, "video": _video, "series": _series,
    "items": _items, "trace": _trace, "molecule": _molecule, "boxes": _boxes,
}  # fmt: skip


def learnt(run: Run, kind: str, rows: int, steps: int) -> tuple[Model, World, np.ndarray]:
    """A small model of the type's world, pretrained as any is (with hidden parts and missing columns), the world, and
    its held-out rows."""
    from onetrunk.training.pretrain import pretrain_model

    made = world(kind, rows, run.seed)
    parts = np.array(list(_SEEN))[np.searchsorted(np.cumsum(list(_SEEN.values())), np.arange(rows) / rows, "right")]
    fixed = {"kind": "predict", "documents": 64, "ask": [ANSWER], "given": list(made.columns)}
    pretrain = {"steps": steps, "objectives": [fixed, {"kind": "masked", "documents": 16}]}
    settings = {"trunk": TRUNK, "columns": made.options, "pretrain": pretrain, "train": {"lr": 2e-3}}
    config, _ = run.config(settings)
    table = {**made.columns, ANSWER: made.answers, "split": parts.tolist()}
    types = {**made.types, ANSWER: "category"}
    data = run.open(table, config, types=types, ask=[ANSWER], given=list(made.columns))
    model = pretrain_model(data, run.context(config, run.place / kind))
    return model, made, np.flatnonzero(parts == "test")


def questions(model: Model, made: World, rows: np.ndarray) -> tuple[list[tuple[Question, IsCause]], float]:
    """What is explained of rows that have a cause and are answered right, and the share of those."""
    from onetrunk.data.table import Table
    from onetrunk.explanation.question import ask_about

    rows = np.array([i for i in rows.tolist() if made.answers[i] != NEITHER])
    table = Table({name: [values[i] for i in rows] for name, values in made.columns.items()})
    asked = ask_about(model, table, ANSWER, list(made.columns))
    pairs = zip(asked, rows.tolist(), strict=True)
    right = [(q, made.is_cause[i]) for q, i in pairs if q.answer.value == made.answers[i]]
    return right, len(right) / max(1, len(asked))


def first_is_cause(question: Question, values: np.ndarray, is_cause: IsCause) -> bool:
    """Is the part with the largest value the cause?"""
    k = int(np.argmax(values))
    each = question.columns[int(question.owners()[k])]
    return is_cause(each.column, each.parts, k - each.first)


# -- what both comparisons of explanations measure --------------------------------------------------------------------
METHODS = ("marginals", "occlusion", "integrated_gradients")
RANDOM = "random"  # the values of the first method, of other parts
QUICK = ["types=[number,items]", "rows=200", "steps=40", "explained=8"]


class Amounts(BaseModel):
    """How much is learnt and explained."""

    model_config = ConfigDict(extra="forbid")
    types: list[str] = list(WORLDS)
    rows: int = Field(1500, ge=50)  # of each world
    steps: int = Field(200, ge=1)  # images and dates are learnt by then
    explained: int = Field(90, ge=1)  # test rows, of which those are explained that have a cause and are answered right


def measured(run: Run) -> dict[str, dict[str, Any]]:
    """Of each type: whether each method names the cause first (`hits`, 0 or 1 a row), and its gain. One model of a type
    serves both comparisons; what one has measured the other finds, at the same commit."""
    chosen = Amounts.model_validate(with_settings(Amounts().model_dump(), run.settings))
    same = [each for each in run.settings if not each.startswith("types=")]  # which types are asked for changes none
    shared, plain = replace(run, name="explanations", settings=same), replace(run, settings=[])
    out = {}
    for kind in chosen.types:
        out[kind] = shared.part(kind, partial(_measured, plain, kind, chosen))
        told = {name: value for name, value in out[kind].items() if name != "hits"}
        run.on_event(Note(f"{kind}: {told}"))
    return out


def _measured(run: Run, kind: str, chosen: Amounts) -> dict[str, Any]:
    from onetrunk.evaluation.faithfulness import curves_of_several, gains
    from onetrunk.explanation.attribution import Attribution
    from onetrunk.explanation.method import explain

    began = time.perf_counter()
    model, made, rows = learnt(run, kind, chosen.rows, chosen.steps)
    asked, right = questions(model, made, rows[: chosen.explained])
    hits: dict[str, list[float]] = {method: [] for method in METHODS}
    curves: dict[str, list[Any]] = {method: [] for method in (*METHODS, RANDOM)}
    chance = []
    for i, (question, is_cause) in enumerate(asked):
        explained = [explain(question, method) for method in METHODS]
        values = [each for each in explained if isinstance(each, Attribution)]
        for method, each in zip(METHODS, values, strict=True):
            hits[method].append(float(first_is_cause(question, each.total(), is_cause)))
        several = curves_of_several(question, [*values, shuffled(values[0], i)], run.seed)
        for method, own in zip(curves, several, strict=True):
            curves[method].append(own)
        causes = [is_cause(c.column, c.parts, k) for c in question.columns for k in range(len(c.parts))]
        chance.append(float(np.mean(causes)))
    gained = {method: gains(own, run.seed)[0] for method, own in curves.items()}
    return {
        "hits": hits,
        "gains": {m: None if g is None else {"gain": g.value, "interval": [g.low, g.high]} for m, g in gained.items()},
        "any part": float(np.mean(chance)) if chance else 0.0,
        "answered right": right,
        "rows": len(asked),
        "seconds": time.perf_counter() - began,
    }


def shuffled(each: Attribution, seed: int) -> Attribution:
    """The same values, of other parts."""
    total = np.random.default_rng(seed).permutation(each.total())
    ends = np.cumsum([len(c.parts) for c in each.columns])
    columns = [
        replace(c, by_part=total[None, end - len(c.parts) : end], values=total[None, end - len(c.parts) : end].sum(1))
        for c, end in zip(each.columns, ends.tolist(), strict=True)
    ]
    return replace(each, columns=columns)
