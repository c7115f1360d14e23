"""mnist_draw: digits drawn from their label, 28 × 28; read by a classifier of real digits, against real digits.

    python -m bench mnist_draw      about 8 minutes on 2 cores

The model learns from mnist_10k's 7,000 training digits. A support vector machine trained on the same digits reads 100
drawings of each; the rival is how many real held-out digits it reads. Were drawings copies, they would be much nearer
to the training digits than held-out ones are. Ten drawings of each are kept in docs/images/mnist_draw.png.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from bench.common import ROOT, Figures, Run, data_folder

EACH = 100  # drawings of each digit
SHOWN = 10  # of them in the picture
STEPS, GUIDANCE = 24, 2.0
PICTURE = ROOT / "docs" / "images" / "mnist_draw.png"
SETTINGS: dict[str, Any] = {
    "trunk": {"width": 128, "layers": 4, "heads": 4},
    "columns": {"image": {"type": "image", "patch": 4, "stem": 0}, "label": {"type": "category"}},
    "train": {"lr": 2e-3, "ema": 0.995, "tensorboard": False},
    "finetune": {"documents": 96, "steps": 1000},
}


def compare(run: Run) -> Figures:
    from sklearn.svm import SVC

    from bench.mnist_10k import read
    from onetrunk.columns.image import sheet
    from onetrunk.core.column import Sampling
    from onetrunk.evidence.intervals import wilson
    from onetrunk.metrics.images import nearest
    from onetrunk.verbs import _stages
    from onetrunk.verbs._setup import open_data

    config, _ = run.config(SETTINGS)
    data = open_data(
        read(data_folder("mnist_10k")), ask=["image"], given=["label"], ignore=None, types=None, map=None,
        split_spec="given:split", seed=run.seed, allow_equal_rows=True, network=False, config=config,
        console=run.console,
    )  # fmt: skip
    model = _stages.build(data, config, run.seed)
    model, _ = _stages.finetune(data, config, run.place / "model", run.seed, model, False, 0.01, run.console)
    labels = np.repeat(np.arange(10), EACH)
    sampling = Sampling(steps=STEPS, guidance=GUIDANCE, seed=run.seed)
    drawn = [a.value for a in model.answer({"label": labels.tolist()}, "image", ["label"], sampling)]
    Image.fromarray(sheet([drawn[first : first + SHOWN] for first in range(0, len(drawn), EACH)])).save(PICTURE)

    train, real = data.part("train"), data.part(run.part)
    pixels = {"train": _flat(train["image"]), "real": _flat(real["image"]), "drawn": _flat(drawn)}
    judge = SVC(C=10, gamma="scale").fit(pixels["train"], train["label"])
    right = judge.predict(pixels["drawn"]) == labels
    share = wilson(int(right.sum()), len(right))
    away = {name: nearest(pixels[name], pixels["train"])[0] for name in ("drawn", "real")}
    copies = away["drawn"] < np.quantile(away["real"], 0.01)  # one in a hundred, if they are as new as real ones
    return Figures(
        ours=share.value,
        interval=[share.low, share.high],
        unit="recognised",
        rival_name="real digits",
        rival=float(judge.score(pixels["real"], real["label"])),
        split={"part": run.part, "rows": {name: len(index) for name, index in data.split.parts().items()}},
        also={
            "drawn": len(drawn),
            "recognised_of_each": right.reshape(10, EACH).mean(1).tolist(),
            "median_distance_to_the_nearest_training_digit": {k: float(np.median(v)) for k, v in away.items()},
            "share_nearer_than_the_nearest_1_percent_of_real": float(copies.mean()),
            "spread_of_pixels": {name: float(pixels[name].std(0).mean()) for name in ("drawn", "real")},
            "sampling": {"steps": STEPS, "guidance": GUIDANCE},
            "picture": str(PICTURE.relative_to(ROOT)),
        },
    )


def _flat(images: Any) -> np.ndarray:
    """[n, 784], 0 to 1."""
    return np.stack(list(images)).reshape(len(images), -1) / 255.0
