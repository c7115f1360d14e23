"""Category: one class, or several at once (multi-label), out of a known set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from onetrunk.columns._names import kind_of, name_of, value_of
from onetrunk.core import rng
from onetrunk.core.answer import Answer
from onetrunk.core.batch import Loss, state_of
from onetrunk.core.column import Codec
from onetrunk.core.config import Config
from onetrunk.core.content import Content, On, Role, Segment
from onetrunk.core.decoding import AnswerContext, Query, State, state_keys
from onetrunk.core.errors import BadValueError, DataError
from onetrunk.nn.dropout import dropout
from onetrunk.nn.heads.categorical import choose, divergence, linear_cross_entropy

_FORGET = (
    0.02  # how often training shows "unknown" instead of a given class, so that an unseen one finds a learnt vector
)


class Category(Codec):
    """One slot. Read out from the slot's state and the mean of what is given; cross entropy (multi-label: sigmoids).

    With `on` it is read from another column's last position alone, as recurrent models do.
    """

    pooled = True
    read_out = ("head", "bias")

    class Options(Config):
        balance: bool = False  # weigh classes by the inverse of their frequency
        smoothing: float = Field(0.0, ge=0, lt=1)  # label smoothing in training (arXiv 1512.00567)
        dropout: float = Field(0.0, ge=0, lt=1)  # before the read-out
        on: str | None = None  # the column from whose last position it is read; None: from a slot of its own

    def __init__(self, options: dict[str, Any] | None = None) -> None:
        super().__init__(options)
        self.pooled = self.options.on is None

    def reads_on(self) -> str | None:
        return self.options.on

    # -- knowledge ---------------------------------------------------------------------------------------------------
    @classmethod
    def recognise(cls, values: Sequence[Any]) -> float:
        if all(isinstance(v, bool | np.bool_) for v in values):
            return 0.95
        if all(isinstance(v, list | tuple | set) and all(isinstance(x, str) for x in v) for v in values):
            return 0.9
        distinct = len({name_of(v) for v in values})
        if all(isinstance(v, str) for v in values):
            short = float(np.mean([len(v) for v in values])) <= 40
            few = distinct <= max(20, 0.05 * len(values)) and (distinct < 0.7 * len(values) or len(values) < 10)
            return 0.9 if short and few else 0.2
        whole = all(isinstance(v, int | np.integer) or (isinstance(v, float) and v.is_integer()) for v in values)
        return 0.7 if whole and distinct <= 10 and len(values) >= 50 else 0.1

    def fit(self, values: Sequence[Any]) -> None:
        self.multi = any(isinstance(v, list | tuple | set) for v in values)
        counts = Counter(name_of(x) for v in values for x in _members(v))
        if len(counts) < 2 and not self.multi:
            found = ", ".join(f"{name!r}: {count}" for name, count in counts.items()) or "none"
            raise DataError(f"A category needs at least 2 classes in the training rows; found {found}.")
        originals = {name_of(x): x for v in values for x in _members(v)}
        numeric = all(isinstance(x, int | float | np.number) and not isinstance(x, bool) for x in originals.values())
        self.classes = sorted(counts, key=(lambda name: float(originals[name])) if numeric else None)
        self.kind = kind_of(originals.values())
        self.counts = [counts[name] for name in self.classes]

    def extend(self, values: Sequence[Any]) -> int:
        new = sorted({name_of(x) for v in values for x in _members(v)} - set(self.classes))
        self.classes += new
        self.counts += [1] * len(new)
        if new and hasattr(self, "slot"):
            for name in ("table", "head"):
                old = getattr(self, name)
                grown = torch.cat([old.data, old.data.mean(0, keepdim=True).expand(len(new), -1)])
                setattr(self, name, nn.Parameter(grown))
            self.bias = nn.Parameter(torch.cat([self.bias.data, self.bias.data.min().expand(len(new))]))
        return len(new)

    def knowledge(self) -> dict[str, Any]:
        return {"classes": self.classes, "counts": self.counts, "kind": self.kind, "multi": self.multi}

    def set_knowledge(self, knowledge: dict[str, Any]) -> None:
        self.classes, self.counts = list(knowledge["classes"]), list(knowledge["counts"])
        self.kind, self.multi = knowledge["kind"], knowledge["multi"]

    def build(self, width: int) -> None:
        self.table = nn.Parameter(torch.randn(len(self.classes), width) * width**-0.5)
        if not self.multi:
            self.unknown = nn.Parameter(torch.zeros(width))
        self.slot = nn.Parameter(torch.zeros(width))
        self.head = nn.Parameter(torch.zeros(len(self.classes), (1 + self.pooled) * width))
        self.bias = nn.Parameter(torch.zeros(len(self.classes)))

    # -- a person's view ---------------------------------------------------------------------------------------------
    @classmethod
    def describe(cls, values: Sequence[Any]) -> dict[str, Any]:
        counts = Counter(name_of(x) for v in values for x in _members(v))
        return {"classes": len(counts), "counts": dict(counts.most_common(20))}

    @classmethod
    def fingerprint(cls, value: Any) -> str:
        return "|".join(sorted(name_of(x) for x in _members(value)))

    # -- values to parts ---------------------------------------------------------------------------------------------
    def encode(self, value: Any) -> dict[str, np.ndarray]:
        """A class never seen in training is -1: unknown where given, not trained on where asked. Where a value holds
        several, those never seen are only counted."""
        index = self._index()
        if isinstance(value, dict) or (isinstance(value, list | tuple | set) and not self.multi):
            raise BadValueError(f"expected {'classes' if self.multi else 'one class'}, found {value!r}")
        if self.multi:
            hot = np.zeros(len(self.classes), dtype=np.float32)
            names = {name_of(x) for x in _members(value)}
            hot[[index[name] for name in names if name in index]] = 1
            return {"hot": hot, "unseen": np.int64(len(names - index.keys()))}
        return {"id": np.int64(index.get(name_of(value), -1))}

    def _index(self) -> dict[str, int]:
        if len(getattr(self, "_positions", ())) != len(self.classes):
            self._positions = {name: i for i, name in enumerate(self.classes)}
        return self._positions

    def blank(self) -> dict[str, np.ndarray]:
        if self.multi:
            return {"hot": np.zeros(len(self.classes), dtype=np.float32), "unseen": np.int64(0)}
        return {"id": np.int64(-1)}

    def dropped(self, content: Content, on: Content | None = None, place: np.ndarray | None = None) -> dict[str, int]:
        unseen = int(content.data["unseen"].sum() if self.multi else (content.data["id"] < 0).sum())
        return {"classes unseen in training": unseen} if unseen else {}

    # -- parts to positions ------------------------------------------------------------------------------------------
    def segment(
        self, content: Content, role: Role, keys: np.ndarray, augment: bool = False, on: On | None = None
    ) -> Segment:
        m = len(content)
        parts = {name: array for name, array in content.gather().items() if name != "unseen"}
        hidden = np.full(m, role != Role.GIVEN)
        if role == Role.GIVEN:
            if augment and not self.multi:
                parts["id"] = np.where(rng.uniform(keys) < _FORGET, -1, parts["id"])
            return Segment({**parts, "hidden": hidden}, np.ones(m, dtype=np.int64))
        shown = {name: np.zeros_like(array) for name, array in parts.items()}
        targets = {**parts, "w": self._weights(parts)}
        if on is not None:
            there = np.flatnonzero(on.lens)
            nothing = {name: array[:0] for name, array in {**shown, "hidden": hidden}.items()}
            reads = np.cumsum(on.lens)[there] - 1
            return Segment(nothing, np.zeros(m, dtype=np.int64), reads=reads,
                           targets={name: array[there] for name, array in targets.items()})  # fmt: skip
        return Segment(
            {**shown, "hidden": hidden},
            np.ones(m, dtype=np.int64),
            reads=np.arange(m, dtype=np.int64),
            targets=targets,
        )

    def _weights(self, parts: dict[str, np.ndarray]) -> np.ndarray:
        if self.multi:
            return np.ones(len(parts["hot"]), dtype=np.float32)
        ids = parts["id"]
        w = (ids >= 0).astype(np.float32)
        if self.options.balance:
            counts = np.maximum(np.array(self.counts, dtype=np.float32), 1)
            w *= (counts.sum() / (len(counts) * counts))[ids]
        return w

    def embed(self, content: dict[str, Tensor]) -> Tensor:
        if self.multi:
            shown = content["hot"] @ self.table
        else:
            ids = content["id"]
            shown = torch.where((ids < 0)[:, None], self.unknown, F.embedding(ids.clamp(min=0), self.table))
        return torch.where(content["hidden"][:, None], self.slot, shown)

    # -- positions to answers ----------------------------------------------------------------------------------------
    def logits(self, h: Tensor) -> Tensor:
        h = dropout(h, self.options.dropout, self.training)
        return F.linear(h, self.head, self.bias).float()

    def loss(self, h: Tensor, targets: dict[str, Tensor]) -> Loss:
        w = targets["w"]
        if self.multi:
            losses = F.binary_cross_entropy_with_logits(self.logits(h), targets["hot"], reduction="none").mean(-1)
            return Loss((losses * w).sum(), w.sum(), losses.detach())
        one = torch.ones(len(h), 1, device=h.device, dtype=h.dtype)
        h = torch.cat([dropout(h, self.options.dropout, self.training), one], dim=1)
        head = torch.cat([self.head, self.bias[:, None]], dim=1)
        smoothing = self.options.smoothing if self.training else 0.0
        total, each = linear_cross_entropy(h, head, targets["id"].clamp(min=0), w, smoothing)
        return Loss(total, w.sum(), each)

    def divergence(self, h: Tensor, teacher: Self, h_teacher: Tensor, temperature: float) -> Tensor:
        own, theirs = self.logits(h), teacher.logits(h_teacher)
        if not self.multi:
            return divergence(own, theirs, temperature)
        # Each class is there or not: a softmax over its logit and 0.
        own, theirs = (torch.stack([x, torch.zeros_like(x)], dim=-1) for x in (own, theirs))
        return divergence(own, theirs, temperature).mean(-1)

    def start(self, context: AnswerContext) -> State:
        state = context.state("temperature", "top_k", "top_p")
        on = context.read_positions
        return state if on is None else {**state, **state_of(on, context.device)}

    def query(self, state: State) -> Query:
        n, device = len(state["done"]), state["done"].device
        hidden = torch.ones(n, dtype=torch.bool, device=device)
        if self.multi:
            return Query({"hot": torch.zeros(n, len(self.classes), device=device), "hidden": hidden}, t=1)
        return Query({"id": torch.zeros(n, dtype=torch.int64, device=device), "hidden": hidden}, t=1)

    def step(self, state: State, h: Tensor, unconditional: Tensor | None) -> State:
        if "lens" in state:  # of nothing, zeros
            h = F.pad(h, (0, 0, 1, 0))[torch.arange(h.shape[0], device=h.device), state["lens"]][:, None]
        logits = self.logits(h[:, 0])
        p = logits.sigmoid() if self.multi else logits.softmax(-1)
        return {**state, "done": ~state["done"], "p": p, "id": logits.argmax(-1)}

    def finish(self, state: State) -> list[Answer]:
        """The likeliest class, or one that is drawn here: `step` alone is what other runtimes run."""
        uniform = torch.from_numpy(rng.uniform(state_keys(state))).to(state["p"].device)
        drawn = choose(state["p"].log(), uniform, state["temperature"], state["top_k"], state["top_p"])
        ids = torch.where(state["temperature"] > 0, drawn, state["id"])
        answers = []
        for p, i in zip(state["p"].cpu().numpy(), ids.tolist(), strict=True):
            probability = {name: float(x) for name, x in zip(self.classes, p, strict=True)}
            if self.multi:
                answers.append(Answer([self._value(k) for k in np.flatnonzero(p >= 0.5)], probability))
            else:
                answers.append(Answer(self._value(i), probability, logprob=float(np.log(max(p[i], 1e-30)))))
        return answers

    def _value(self, i: int) -> Any:
        return value_of(self.classes[i], self.kind)

    # -- evidence ----------------------------------------------------------------------------------------------------
    def metrics(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        from onetrunk.metrics.classification import classification, multilabel

        p = np.array([[a.probability[name] for name in self.classes] for a in answers])
        if self.multi:
            return multilabel([[name_of(x) for x in _members(t)] for t in truths], p, self.classes)
        return classification([name_of(t) for t in truths], [name_of(a.value) for a in answers], p, self.classes)

    def per_row(self, answers: Sequence[Answer], truths: Sequence[Any]) -> np.ndarray | None:
        if self.multi:
            return None
        return np.array(
            [name_of(a.value) == name_of(t) for a, t in zip(answers, truths, strict=True)], dtype=np.float64
        )

    def features(self) -> Any:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer, MultiLabelBinarizer, OneHotEncoder

        if self.multi:
            binarizer = MultiLabelBinarizer(classes=self.classes, sparse_output=True)
            return FunctionTransformer(
                lambda vs: binarizer.fit_transform([() if v is None else map(name_of, _members(v)) for v in vs])
            )
        names = FunctionTransformer(lambda vs: np.array([["" if v is None else name_of(v)] for v in vs], dtype=object))
        return make_pipeline(names, OneHotEncoder(handle_unknown="ignore"))

    def baselines(self) -> dict[str, Any]:
        from sklearn.dummy import DummyClassifier
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.multiclass import OneVsRestClassifier

        logistic = LogisticRegression(max_iter=1000, C=3.0)
        if self.multi:
            return {"majority": DummyClassifier(), "logistic regression": OneVsRestClassifier(logistic)}
        return {
            "majority": DummyClassifier(strategy="prior"),
            "logistic regression": logistic,
            "gradient boosting": HistGradientBoostingClassifier(random_state=0),
        }

    def target(self, values: Sequence[Any]) -> np.ndarray:
        if self.multi:
            return np.stack([self.encode(v)["hot"] for v in values])
        return np.array([name_of(v) for v in values])

    def answers_from(self, estimator: Any, features: Any) -> list[Answer]:
        p = estimator.predict_proba(features)
        if isinstance(p, list):  # a multi-output DummyClassifier gives one array a label
            p = np.stack([q[:, -1] for q in p], axis=1)
        names = self.classes if self.multi else [str(c) for c in estimator.classes_]
        answers = []
        for row in p:
            probability = dict.fromkeys(self.classes, 0.0) | dict(zip(names, map(float, row), strict=True))
            best = self._value(self.classes.index(names[int(row.argmax())])) if not self.multi else None
            answers.append(
                Answer([self._value(k) for k in np.flatnonzero(row >= 0.5)] if self.multi else best, probability)
            )
        return answers

    def figure(self, answers: Sequence[Answer], truths: Sequence[Any], axes: Any) -> bool:
        if self.multi or len(self.classes) > 40:
            return False
        from matplotlib import rcParams
        from sklearn.metrics import ConfusionMatrixDisplay

        ConfusionMatrixDisplay.from_predictions(
            [name_of(t) for t in truths],
            [name_of(a.value) for a in answers],
            labels=self.classes,
            normalize=None,
            colorbar=False,
            cmap=rcParams["image.cmap"],  # the report's, light or dark
            ax=axes,
            xticks_rotation=90 if max(map(len, self.classes)) > 3 else 0,
        )
        axes.set_xlabel("answered")
        axes.set_ylabel("true")
        return True

    def class_names(self) -> list[str] | None:
        return list(self.classes)


def _members(value: Any) -> Sequence[Any]:
    return list(value) if isinstance(value, list | tuple | set) else [value]


CODEC = Category
