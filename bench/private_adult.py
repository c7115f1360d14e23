"""private_adult: does a person earn over 50,000 a year, learnt with differential privacy at epsilon 1, 3 and 8?

    python -m bench private_adult      about 3 minutes on 1 core

Accuracy on the official test part (16,281 people), with no settings of its own; `ours` is that at epsilon 3. The rival
is Opacus on the same rows with the same promise (delta 1e-5): a network of one hidden layer on standardised numbers and
one-hot classes. How numbers are scaled and which classes there are is learnt from the rows without privacy, by both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from bench.common import Figures, Run, data_folder
from bench.private_rows import Rival, compare_private
from onetrunk.training.open_data import Data

EPSILONS = (1.0, 3.0, 8.0)
QUICK = ["finetune.steps=2"]


def compare(run: Run) -> Figures:
    rival = Rival("one hidden layer", _network, _numbers, rate=0.2, rows=1024, epochs=12)
    return compare_private(run, data_folder("adult"), {}, "income", EPSILONS, rival)


def _network(inputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 2))


def _numbers(data: Data, part: str) -> Sequence[np.ndarray]:
    """Standardised numbers and one-hot classes."""
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    train, rows = (data.rows(name).select(data.given).frame().infer_objects() for name in ("train", part))
    words = make_column_selector(dtype_include=[object, "str"])
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), words), remainder=numbers
    ).fit(train)
    return [columns.transform(each).astype(np.float32) for each in (train, rows)]
