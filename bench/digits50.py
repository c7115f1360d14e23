"""digits50: 8 × 8 digits with 50 labels, mean of 5 seeds (other 50 labels each); against an SVM.

    python -m bench digits50      about 12 minutes on 2 cores

The demo's job, `onetrunk demo`, five times: scikit-learn's digits, 1,437 training images of which 50 are labelled, 360
held out. `--split val` looks at the unlabelled training images instead, whose labels no model sees.
"""

from __future__ import annotations

import numpy as np

from bench.common import Figures, Run

SEEDS = 5


def compare(run: Run) -> Figures:
    from sklearn.datasets import load_digits

    from onetrunk.core.config import read_yaml
    from onetrunk.core.events import Note
    from onetrunk.training import digits
    from onetrunk.training.finetune import finetune_model
    from onetrunk.training.pretrain import pretrain_model
    from onetrunk.training.stage import new_model

    config, _ = run.config(read_yaml(digits.SETTINGS))
    right: dict[str, list[np.ndarray]] = {}
    for seed in range(run.seed, run.seed + SEEDS):
        data = digits.data(seed, config)
        test = data.rows("test")
        if run.split == "val":
            target = load_digits().target
            hidden = [i for i in data.split.train if data.table["label"][i] is None]
            test = data.table.take(np.array(hidden))
            test.columns["label"] = [int(target[i]) for i in hidden]
            test.columns["word"] = [digits.WORDS[target[i]] for i in hidden]
        result = digits.baselines(data, test)
        place = run.place / str(seed)
        model = pretrain_model(data, run.context(config, place / "foundation", seed))
        result["straight after pretraining"] = digits.right(model, test, "label")
        result["word"] = digits.right(model, test, "word")
        result["drawn"], _ = digits.draw(model, data, 20, seed)
        asked = digits.only(data, "label")
        tuned = finetune_model(asked, run.context(config, place / "tuned", seed), model, pretrained=True).model
        result["kept"] = digits.right(tuned, test, "label")
        scratch = new_model(asked, config, seed)
        scratch = finetune_model(asked, run.context(config, place / "scratch", seed), scratch, pretrained=False).model
        result["from scratch"] = digits.right(scratch, test, "label")
        for name, each in result.items():
            right.setdefault(name, []).append(each)
        run.on_event(Note(", ".join(f"{name} {each[-1].mean():.4f}" for name, each in right.items())))
    return _figures(run, right)


def _figures(run: Run, right: dict[str, list[np.ndarray]]) -> Figures:
    """Seeds and rows are both resampled for the interval."""
    dice = np.random.default_rng(run.seed)
    seeds = dice.integers(0, SEEDS, (1000, SEEDS))

    def draw(name: str) -> np.ndarray:
        return np.array(
            [np.mean([dice.choice(right[name][s], len(right[name][s])).mean() for s in chosen]) for chosen in seeds]
        )

    mean = {name: float(np.mean([each.mean() for each in result])) for name, result in right.items()}
    return Figures(
        ours=mean["kept"],
        interval=[float(x) for x in np.quantile(draw("kept"), [0.025, 0.975])],
        unit="accuracy",
        rival_name="SVM on pixels",
        rival=mean["SVM"],
        split={"part": run.split, "labelled": 50, "seeds": SEEDS},
        without_pretraining=mean["from scratch"],
        also={
            "mean": mean,
            "by_seed": {name: [float(e.mean()) for e in each] for name, each in right.items()},
        },
    )
