"""Pictures drawn from what is given, read by a classifier of real ones: are they recognised, and are they new?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from bench.common import ROOT, Figures, Run

EACH = 100  # drawings of each class
SHOWN = 10  # of them in the picture
STEPS, GUIDANCE = 24, 2.0


def compare_drawings(
    run: Run, settings: dict[str, Any], rows: Any, given: str, classes: Sequence[Any], rival_name: str
) -> Figures:
    """Learns to draw `image` from `given` on the training part of `rows`, and draws every class EACH times.

    A support vector machine trained on the same pictures reads the drawings; the rival is how many real held-out ones
    it reads. Were drawings copies, they would be much nearer to the training pictures than held-out ones are. Some of
    each class are kept in docs/images/NAME.png. Pictures are arrays of one size, uint8.
    """
    from sklearn.svm import SVC

    from onetrunk.core.answer import Sampling
    from onetrunk.evaluation.intervals import wilson
    from onetrunk.media.image import sheet
    from onetrunk.metrics.images import nearest
    from onetrunk.training.finetune import finetune_model
    from onetrunk.training.stage import new_model

    config, _ = run.config(settings)
    data = run.open(rows, config, ask=["image"], given=[given])
    model = new_model(data, config, run.seed)
    model = finetune_model(data, run.context(config, run.place / "model"), model, pretrained=False).model
    wanted = np.repeat(np.array(classes), EACH)
    sampling = Sampling(steps=STEPS, guidance=GUIDANCE, seed=run.seed)
    drawn = [a.value for a in model.answer({given: wanted.tolist()}, "image", [given], sampling)]
    picture = ROOT / "docs" / "images" / f"{run.name}.png"
    Image.fromarray(sheet([drawn[first : first + SHOWN] for first in range(0, len(drawn), EACH)])).save(picture)

    train, real = data.rows("train"), data.rows(run.split)
    pixels = {"train": _flat(train["image"]), "real": _flat(real["image"]), "drawn": _flat(drawn)}
    judge = SVC(C=10, gamma="scale").fit(pixels["train"], train[given])
    right = judge.predict(pixels["drawn"]) == wanted
    share = wilson(int(right.sum()), len(right))
    away = {name: nearest(pixels[name], pixels["train"])[0] for name in ("drawn", "real")}
    copies = away["drawn"] < np.quantile(away["real"], 0.01)  # one in a hundred, if they are as new as real ones
    return Figures(
        ours=share.value,
        interval=[share.low, share.high],
        unit="recognised",
        rival_name=rival_name,
        rival=float(judge.score(pixels["real"], real[given])),
        split={"part": run.split, "rows": {name: len(index) for name, index in data.split.indices().items()}},
        also={
            "drawn": len(drawn),
            "recognised_of_each": right.reshape(len(classes), EACH).mean(1).tolist(),
            "median_distance_to_the_nearest_training_picture": {k: float(np.median(v)) for k, v in away.items()},
            "share_nearer_than_the_nearest_1_percent_of_real": float(copies.mean()),
            "spread_of_pixels": {name: float(pixels[name].std(0).mean()) for name in ("drawn", "real")},
            "sampling": {"steps": STEPS, "guidance": GUIDANCE},
            "picture": str(picture.relative_to(ROOT)),
        },
    )


def _flat(images: Any) -> np.ndarray:
    """[n, pixels], 0 to 1."""
    return np.stack(list(images)).reshape(len(images), -1) / 255.0
