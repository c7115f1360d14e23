"""Boosted trees as tensors, against scikit-learn's own predictions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from onetrunk.nn.heads.trees import TreeEnsemble, joined, trees_of


def _table(rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 5))
    x[rng.random(x.shape) < 0.2] = np.nan
    x[:, 3] = np.round(x[:, 3])
    return x, np.nan_to_num(x[:, 0]) * 2 + np.isnan(x[:, 1]) + np.nan_to_num(x[:, 3]) ** 2


def test_a_regressors_trees_give_its_predictions() -> None:
    x, y = _table()
    estimator = HistGradientBoostingRegressor(max_iter=30, random_state=0).fit(x, y)
    result = TreeEnsemble.of(trees_of(estimator))(torch.from_numpy(x))
    np.testing.assert_allclose(result[:, 0].numpy(), estimator.predict(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("classes", [2, 4])
def test_a_classifiers_trees_give_its_logits(classes: int) -> None:
    x, y = _table()
    labels = np.digitize(y, np.quantile(y, np.linspace(0, 1, classes + 1)[1:-1]))
    estimator = HistGradientBoostingClassifier(max_iter=15, random_state=0).fit(x, labels)
    result = TreeEnsemble.of(trees_of(estimator))(torch.from_numpy(x)).numpy()
    expected = np.asarray(estimator.decision_function(x)).reshape(len(x), -1)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_ensembles_are_summed_and_survive_their_state() -> None:
    x, y = _table()
    made = [
        trees_of(HistGradientBoostingRegressor(max_iter=n, max_leaf_nodes=4 * n, random_state=n).fit(x, y))
        for n in (2, 5)
    ]
    both = TreeEnsemble.of(joined(made))
    each = sum(TreeEnsemble.of(trees)(torch.from_numpy(x)) for trees in made)
    torch.testing.assert_close(both(torch.from_numpy(x)), each)
    again = TreeEnsemble(*both.feature.shape, 1, both.depth)
    again.load_state_dict(both.state_dict())
    assert torch.equal(again(torch.from_numpy(x)), both(torch.from_numpy(x)))
    assert both(torch.zeros(0, 5, dtype=torch.float64)).shape == (0, 1)


def test_what_are_no_trees_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a fitted histogram gradient boosting"):
        trees_of(HistGradientBoostingRegressor())
