"""Estimators of scikit-learn: `Classifier` and `Regressor` learn a table's task as `train` does.

They work wherever scikit-learn's do: in pipelines, searches, cross-validation, pickles. Given columns may be of every
type, with gaps, in a DataFrame or an array. All rows are learnt from; whoever calls holds out rows to judge by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from onetrunk.core.errors import DataError, UsageError
from onetrunk.core.events import Listener, ignore

if TYPE_CHECKING:
    import pandas as pd

    from onetrunk.core.answer import Answer
    from onetrunk.inference.model_folder import Model

_JUDGES = 500  # rows from which a tenth is enough to say whether the trunk helps; all of fewer teach simple models


class _Estimator(BaseEstimator):
    """What both have in common.

    Args:
        budget: learn for at most this long, like "10min" or a number of seconds; by default five minutes, and more
            for large tables. Small ones need seconds.
        size: of a new model: "nano", "tiny", "small", "base" or "large".
        start: a model folder to start from, a foundation model of such rows for example.
        types: column to type, where dtypes do not say it: columns of numbers are numbers, those of pandas' dtype
            "category" are categories, and others (texts, dates, pictures) are inferred as in `train`.
        settings: settings as in the recipe, `["train.lr=3e-4"]`.
        device: "cpu", "cuda", "cuda:N" or "mps"; by default CUDA where there is one, else the CPU.
        random_state: the seed of all random numbers; None takes another one in each fit.
        verbose: show what happens on standard error.

    Attributes:
        model_: the `onetrunk.load` kind of model: `model_.save(folder)` makes a model folder for every verb.
        target_: the name of the asked column: that of a Series `y`, else "target".
        n_features_in_, feature_names_in_: as usual.
    """

    def __init__(
        self,
        *,
        budget: str | float | None = None,
        size: str | None = None,
        start: str | None = None,
        types: dict[str, str] | None = None,
        settings: Sequence[str] | None = None,
        device: str | None = None,
        random_state: int | np.random.RandomState | None = 0,
        verbose: bool = False,
    ) -> None:
        self.budget = budget
        self.size = size
        self.start = start
        self.types = types
        self.settings = settings
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags

    def _frame(self, x: Any, *, fitting: bool) -> pd.DataFrame:
        """The rows under their columns' names. Raises ValueError where they are not those of the training rows."""
        import pandas as pd

        if hasattr(x, "to_pandas"):  # polars, pyarrow
            x = x.to_pandas()
        if isinstance(x, pd.DataFrame):
            validate_data(self, x, reset=fitting, skip_check_array=True)
        else:
            x = validate_data(self, x, reset=fitting, dtype=None, ensure_all_finite="allow-nan")
        names = getattr(self, "feature_names_in_", [f"x{i}" for i in range(self.n_features_in_)])
        return pd.DataFrame(x).set_axis(list(names), axis=1)

    def _fit(self, x: Any, y: Sequence[Any], name: Any, kind: str) -> Self:
        from onetrunk.training.fit import fit_model
        from onetrunk.training.options import TrainingOptions

        frame = self._frame(x, fitting=True)
        if len(frame) != len(y):
            raise ValueError(f"X has {len(frame)} rows and y {len(y)} values: expected as many.")
        if len(frame) < 2 or not frame.shape[1]:
            raise ValueError(
                f"Found n_samples={len(frame)} and {frame.shape[1]} feature(s): expected 2 rows and 1 column or more."
            )
        given = [name for name in frame.columns if _varies(frame[name])]
        if not given:
            raise ValueError("No column of X takes two different values: expected one that tells rows apart.")
        self.target_ = _free(name if isinstance(name, str) and name else "target", frame)
        dealt = f"stratified:{self.target_}:90/10/0" if kind == "category" else "random:90/10/0"
        options = TrainingOptions(
            ask=[self.target_],
            given=given,
            types={**_types(frame), self.target_: kind, **(self.types or {})},
            split=dealt if len(frame) >= _JUDGES else "random:100/0/0",
            seed=_seed(self.random_state),
            start=self.start,
            size=self.size,
            device=self.device,
            budget=None if self.budget is None else str(self.budget),
            settings=["train.tensorboard=false", *(self.settings or [])],
        )
        try:
            self.model_: Model = fit_model(frame.assign(**{self.target_: list(y)}), options, self._listener())
        except (DataError, UsageError) as error:
            raise ValueError(str(error)) from error
        return self

    def _listener(self) -> Listener:
        if not self.verbose:
            return ignore
        from onetrunk.verbs.show import Printer

        return Printer()

    def _answers(self, x: Any) -> list[Answer]:
        from onetrunk.data.table import read

        check_is_fitted(self)
        frame = self._frame(x, fitting=False)
        return self.model_.answer(self.model_.as_learnt(read(frame)), self.target_)


class Classifier(ClassifierMixin, _Estimator):
    """Predicts classes. `classes_` are the values of `y`, in order."""

    __doc__ += (_Estimator.__doc__ or "").partition("What both have in common.")[2]

    def fit(self, X: Any, y: Any) -> Self:
        """Learns classes `y` [rows] from rows `X` [rows, columns], of which cells may be missing (None, NaN). Raises
        ValueError for what cannot be learnt from."""
        if y is None:
            raise ValueError("Classifier requires y to be passed, but the target y is None.")
        labels = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"Classifier expects at least 2 classes in y, found {len(self.classes_)} class.")
        self._names = _class_names(self.classes_.tolist())
        return self._fit(X, [self._names[code] for code in codes], getattr(y, "name", None), "category")

    def predict_proba(self, X: Any) -> np.ndarray:
        """Calibrated probabilities, float64 [rows, classes], in the order of `classes_`."""
        answers = [answer.of_classes for answer in self._answers(X)]
        found = np.array([[of.get(name, 0.0) for name in self._names] for of in answers], dtype=np.float64)
        return found / found.sum(1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """The most likely class of each row, [rows], as it stood in `y`."""
        best = self.predict_proba(X).argmax(1)
        return np.asarray(self.classes_[best])


class Regressor(RegressorMixin, _Estimator):
    """Predicts numbers."""

    __doc__ += (_Estimator.__doc__ or "").partition("What both have in common.")[2]

    def fit(self, X: Any, y: Any) -> Self:
        """Learns numbers `y` [rows] from rows `X` [rows, columns], of which cells may be missing (None, NaN). Raises
        ValueError for what cannot be learnt from."""
        if y is None:
            raise ValueError("Regressor requires y to be passed, but the target y is None.")
        values = column_or_1d(y, warn=True, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError("Input y contains NaN or infinity: expected a number for every row.")
        return self._fit(X, values.tolist(), getattr(y, "name", None), "number")

    def predict(self, X: Any) -> np.ndarray:
        """The mean of what each row's number may be, float64 [rows], in the unit of `y`."""
        return np.array([answer.value for answer in self._answers(X)], dtype=np.float64)

    def predict_interval(self, X: Any) -> np.ndarray:
        """Between which numbers it lies in nine of ten rows, float64 [rows, 2]."""
        return np.array([answer.interval for answer in self._answers(X)], dtype=np.float64)


def _types(frame: pd.DataFrame) -> dict[str, str]:
    """What dtypes say of columns, as scikit-learn reads them; others are inferred."""
    told = {"i": "number", "u": "number", "f": "number", "category": "category"}
    kinds = {name: "category" if dtype == "category" else dtype.kind for name, dtype in frame.dtypes.items()}
    return {str(name): told[kind] for name, kind in kinds.items() if kind in told}


def _varies(column: pd.Series[Any]) -> bool:
    """Does it tell any two rows apart?"""
    values = column.dropna()
    try:
        return bool(values.nunique() > 1)
    except TypeError:  # pictures, lists
        return len(values) > 0


def _class_names(classes: Sequence[Any]) -> list[str]:
    """What the model calls the classes: as they are written, where a table can hold that and it tells them apart."""
    names = [str(value) for value in classes]
    plain = len(set(names)) == len(names) and all(name and name == name.strip() for name in names)
    return names if plain else [f"class {i}" for i in range(len(names))]


def _free(name: str, frame: pd.DataFrame) -> str:
    while name in frame.columns:
        name += "_"
    return name


def _seed(random_state: Any) -> int:
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31))
