"""canaries: how much are planted secrets given away by a model of texts, trained with and without privacy?

    python -m bench canaries      about 10 minutes on 2 cores

Rows are 40 characters of Shakespeare each; among them a coin has planted about half of 200 texts that hold six random
digits, each once. Exposure in bits is how many times the guesses at the digits were halved (arXiv 1802.08232); a model
that knows nothing of them has 1.44 in the mean. `ours` is the mean exposure after private training (epsilon 3), the
rival's that of the same training without privacy. Beside each stands the least epsilon that the guesses of who was in
prove (arXiv 2305.08846).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from bench.common import Figures, Run, data_folder
from bench.tables import ends
from onetrunk.evaluation.audit.canaries import exposures, make_canaries
from onetrunk.evaluation.audit.one_run import coin_flips, one_run_bound
from onetrunk.inference.model_folder import Model
from onetrunk.training.pretrain import pretrain_model
from onetrunk.training.private import private_recipe
from onetrunk.training.recipe import Recipe

EPS, DELTA = 3.0, 1e-5
SETTINGS: dict[str, Any] = {
    "attention": "causal",
    "trunk": {"width": 64, "layers": 2, "heads": 2},
    "columns": {"text": {"type": "text", "unit": "character", "length": 48}},
    "train": {"optimizer": "adamw", "lr": 3e-3, "ema": 0.9, "tensorboard": False},
    "pretrain": {"steps": 200, "objectives": [{"kind": "predict", "documents": 256}]},
    "private": {"eps": EPS, "delta": DELTA},
}
QUICK = ["pretrain.steps=2"]
_TEMPLATE = "the secret number of this house: {}."  # of 40 characters with six digits in it
_SIDE, _ROWS, _CANARIES = 40, 1500, 200
_EXPOSED, _ALTERNATIVES = 40, 200


def compare(run: Run) -> Figures:
    config, _ = run.config(SETTINGS)
    text = (data_folder("tinyshakespeare") / "train.txt").read_text(encoding="utf-8")
    rows = [text[_SIDE * i : _SIDE * (i + 1)].replace("\n", " ") for i in range(_ROWS)]
    canaries = make_canaries(_TEMPLATE, _CANARIES, seed=run.seed)
    planted = coin_flips(_CANARIES, run.seed)
    learnt = [*rows, *(text for text, is_in in zip(canaries, planted, strict=True) if is_in)]
    table = {"text": [*learnt, *rows[:2]], "split": ["train"] * len(learnt) + ["val", "test"]}
    known = [text for text, is_in in zip(canaries, planted, strict=True) if is_in][:_EXPOSED]
    ways = {"with privacy": config}
    if run.rival:
        ways["without privacy"] = config.model_copy(update={"private": None})

    def given_away(name: str) -> dict[str, Any]:
        model = _trained(run, table, ways[name], name)

        def losses(texts: Sequence[str]) -> np.ndarray:
            return model.losses({"text": list(texts)}, "text", [])[0]

        own = [each.exposure for each in exposures(known, losses, _ALTERNATIVES, run.seed)]
        bound = one_run_bound(-losses(canaries), planted, DELTA)
        return {
            "exposure": float(np.mean(own)), "least_epsilon": bound.epsilon, "right_guesses": bound.right,
            "guesses": bound.guesses, "bits": own,
        }  # fmt: skip

    found = {name: run.part(name, partial(given_away, name)) for name in ways}
    bits = {name: each.pop("bits") for name, each in found.items()}
    dice = np.random.default_rng(run.seed)
    means = np.array([dice.choice(bits["with privacy"], len(known)).mean() for _ in range(500)])
    return Figures(
        ours=found["with privacy"]["exposure"],
        interval=ends(means),
        unit="bits of exposure (less is better)",
        rival_name="the same training without privacy",
        rival=found["without privacy"]["exposure"] if run.rival else None,
        split={"rows": len(learnt), "canaries": _CANARIES, "planted": int(planted.sum())},
        also={"epsilon": EPS, "delta": DELTA, "by_chance": float(1 / np.log(2)), "ways": found},
    )


def _trained(run: Run, table: Any, recipe: Recipe, name: str) -> Model:
    recipe = private_recipe(recipe)
    data = run.open(table, recipe, ask=["text"], given=[])
    return pretrain_model(data, run.context(recipe, run.place / name.replace(" ", "-")))
