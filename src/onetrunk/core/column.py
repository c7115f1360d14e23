"""The contract of a column type: one file in `columns/` that defines a `Codec` and names it `CODEC`.

A codec is the fitted, JSON-able knowledge of one type (vocabulary, classes, scale, learnt from training rows only)
and the small module that embeds its values and reads its answers. Because every type can be given, asked or masked,
a new codec is new inputs *and* new tasks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor, nn

from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.batch import Loss
from onetrunk.core.config import Config
from onetrunk.core.content import Content, On, Role, Segment
from onetrunk.core.decoding import AnswerContext, Query, State
from onetrunk.core.encoder import (
    Beside,
    History,
    Prompted,
    SegmentContext,
    class_names,
    reads_on,
)
from onetrunk.core.errors import BadValueError, UsageError


class Codec(nn.Module, ABC):
    """Base of all column types. `fit` or `set_knowledge`, then `build(width)`, then everything else."""

    Options: ClassVar[type[Config]] = Config  # what a user may set: `columns: {review: {type: ..., <option>: ...}}`
    ragged: ClassVar[bool] = False  # does one value become a varying number of parts?
    pooled: ClassVar[bool] = False  # is the read-out given the slot's state joined with the mean of the given states?
    parts: ClassVar[bool] = False  # can parts of one value be masked, and can two views of it be made?
    shared: ClassVar[bool] = False  # do columns of this type share one codec unless told otherwise?
    guided: ClassVar[bool] = False  # can answers use guidance?
    continues: ClassVar[bool] = False  # can an answer go on from a prompt, a value that it begins with?
    cached: ClassVar[bool] = False  # do values take so long to learn from and encode that both are worth keeping?
    searches: ClassVar[bool] = False  # can its answers be searched for with beams?
    history: ClassVar[bool] = False  # does every value go on from the row's own, which is what was seen before?
    read_out: ClassVar[tuple[str, ...]] = ("head",)  # parameters or modules that `loss` uses, and `embed` does not

    def __init__(self, options: dict[str, Any] | None = None) -> None:
        super().__init__()
        name = type(self).__module__.rpartition(".")[2]
        self.options = self.Options.parse(options or {}, f"the options of a {name} column")

    # -- knowledge ---------------------------------------------------------------------------------------------------
    @classmethod
    @abstractmethod
    def recognise(cls, values: Sequence[Any]) -> float:
        """How much a sample of present values looks like this type: 0 (not at all) to 1."""

    @abstractmethod
    def fit(self, values: Sequence[Any]) -> None:
        """Learns vocabulary, classes or scale from present training values. DataError when they cannot be used."""

    def extend(self, values: Sequence[Any]) -> int:
        """Adds new classes or words; learnt rows stay as they are. Returns how many were added."""
        return 0

    @abstractmethod
    def knowledge(self) -> dict[str, Any]:
        """Everything `fit` learnt, as JSON. Options travel beside it."""

    @abstractmethod
    def set_knowledge(self, knowledge: dict[str, Any]) -> None:
        """The inverse of `knowledge`."""

    def assets(self) -> dict[str, str]:
        """Standard files that go beside the model, name to text (a `tokenizer.json`)."""
        return {}

    @abstractmethod
    def build(self, width: int) -> None:
        """Creates the parameters for a trunk of this width (read-outs take 2 * width where `pooled`)."""

    # -- a person's view ---------------------------------------------------------------------------------------------
    @classmethod
    @abstractmethod
    def describe(cls, values: Sequence[Any]) -> dict[str, Any]:
        """A person's summary of present values: ranges, lengths, classes, samples; JSON-able, in reading order."""

    @classmethod
    def fingerprint(cls, value: Any) -> str:
        """Equal for equal values: for duplicates and leaks."""
        return str(value)

    @classmethod
    def near(cls, value: Any) -> str | None:
        """Equal for values that a person would call nearly the same; None where the type has no such notion."""
        return None

    @classmethod
    def kin(cls, value: Any) -> str | None:
        """Equal for values so alike that a strict split keeps them together (a molecule's scaffold); None where the
        type has no such notion."""
        return None

    def dropped(self, content: Content, on: Content | None = None, place: np.ndarray | None = None) -> dict[str, int]:
        """What training would cut or could not represent, reason to count of parts, for the ledger.

        A codec that reads on another column is told that one's content, and where in it stands what belongs to each
        value: `place` int64 [m], -1 where it is missing.
        """
        return {}

    # -- values to parts ---------------------------------------------------------------------------------------------
    @abstractmethod
    def encode(self, value: Any) -> dict[str, np.ndarray]:
        """One value to arrays: deterministic. Raises BadValueError with the reason."""

    def encode_all(self, values: Sequence[Any], bad: Callable[[int, str], None]) -> tuple[Content, np.ndarray]:
        """All values (None is missing) to content, and `present` bool [m]: false where missing or bad.

        `bad(i, reason)` is told of every value that could not be encoded. Content holds present values only.
        """
        present = np.zeros(len(values), dtype=bool)
        items = []
        for i, value in enumerate(values):
            if value is None:
                continue
            try:
                items.append(self.encode(value))
                present[i] = True
            except BadValueError as error:
                bad(i, str(error))
        if not items:
            items = [self.blank()]
            return Content.stack(items, self.ragged).take(np.zeros(0, dtype=np.int64)), present
        return Content.stack(items, self.ragged), present

    @abstractmethod
    def blank(self) -> dict[str, np.ndarray]:
        """An encoding with the right names, types and shapes, of no particular value."""

    def windows(self, content: Content) -> np.ndarray:
        """How many training windows each value holds, int64 [m]: more than 1 only for what exceeds the context."""
        return np.ones(len(content), dtype=np.int64)

    def successive(self, content: Content) -> tuple[Content, np.ndarray]:
        """Windows that cover every part of every value once, and whose each is [w]."""
        return content, np.arange(len(content))

    def positions(self, content: Content) -> np.ndarray:
        """At most how many positions each value takes in a sequence, int64 [m]."""
        return np.ones(len(content), dtype=np.int64)

    def goes_on(self, value: Any) -> bool:
        """Is an asked row's own value what its answer goes on from, without being told so?"""
        return self.history

    def split(self, value: Any) -> tuple[Any, Any]:
        """A value that answers go on from as what was seen before and what came then: how answers are judged. Of
        others, None and the value.

        Raises BadValueError where it is too short for that.
        """
        return None, value

    # -- parts to positions ------------------------------------------------------------------------------------------
    def reads_on(self) -> str | None:
        """The column on whose positions this one is read out when asked (boxes on an image); None: on its own."""
        return None

    @abstractmethod
    def segment(
        self, content: Content, role: Role, keys: np.ndarray, augment: bool = False, on: On | None = None
    ) -> Segment:
        """Positions of m documents in one role. Corruption, noise and augmentation are functions of `keys` [m].

        `targets["w"]` float32 [r] weighs every read (1, or class weights); the sum of it is the loss's count. `on` is
        told only to an asked codec that reads on another column: it takes no positions of its own, and its `reads`
        count the other's.
        """

    @abstractmethod
    def embed(self, content: dict[str, Tensor]) -> Tensor:
        """Content of a whole batch to [n, D]."""

    # -- positions to answers ----------------------------------------------------------------------------------------
    @abstractmethod
    def loss(self, h: Tensor, targets: dict[str, Tensor]) -> Loss:
        """h [r, D] (or [r, 2 D] where `pooled`) and targets [r, ...] to a weighted sum, its count, each read's own."""

    def divergence(self, h: Tensor, teacher: Self, h_teacher: Tensor, temperature: float) -> Tensor:
        """How far what is read from h is from a teacher's distribution, made of the same knowledge, at each of r reads:
        T² KL(teacher's || own) of both at temperature T (Hinton et al. 2015, arXiv 1503.02531), float32 [r], nats.

        Raises UsageError where answers are no distribution over a closed set.
        """
        name = type(self).__module__.rpartition(".")[2]
        raise UsageError(f"A {name} column has no distribution over a closed set that a student could learn from.")

    # A state is the answers that are being made: tensors [n, ...], always with `done` bool [n], and with `phase` int64
    # [n] where the steps are of several kinds. Answers of several requests are joined in one state, those of one phase,
    # and leave it one by one: so every row is of its own answer alone. Rows that become longer (tokens so far) are
    # padded at the end with zeros when they are joined with longer ones.
    @abstractmethod
    def start(self, context: AnswerContext) -> State:
        """The state before the first step. Only a codec that `continues` is told how each answer begins (`prompt`)."""

    def query(self, state: State) -> Query:
        """What to embed next; never asked of a codec that reads on another column."""
        raise NotImplementedError

    @abstractmethod
    def step(self, state: State, h: Tensor, unconditional: Tensor | None) -> State:
        """h [n, t, D] (or [n, t, 2 D]) of the query's positions, or of the column it reads on; `unconditional` is h
        with nothing given, when guided. A codec that `searches` is started with each document `beams` times, one beside
        the other, and also tells `order` int64 [n]: which of these documents each of its beams goes on from, best
        first."""

    def answer_positions(self, prompt: np.ndarray, sampling: Sampling) -> np.ndarray:
        """How many positions of the trunk an answer takes at most, int64 [n], where its prompt has so many parts [n]:
        those that are kept, and those of the longest query beside them."""
        return np.ones_like(prompt)

    @abstractmethod
    def finish(self, state: State) -> list[Answer]:
        """Answers in the column's own units."""

    # -- evidence ----------------------------------------------------------------------------------------------------
    @abstractmethod
    def metrics(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        """The field's metrics, the main one first; None where undefined. Truths are raw values, none missing."""

    higher_is_better: ClassVar[bool] = True  # of the main metric

    def per_row(self, answers: Sequence[Answer], truths: Sequence[Any]) -> np.ndarray | None:
        """float64 [n] whose mean is the main metric, when it is a mean: makes its bootstrap interval cheap."""
        return None

    def novelty(
        self, answers: Sequence[Answer], truths: Sequence[Any], known: Sequence[Any]
    ) -> dict[str, float | None]:
        """How far answers are from the training values, beside how far true ones are: copies would be nearer."""
        return {}

    def likelihood(self, nats: np.ndarray, parts: np.ndarray, truths: Sequence[Any]) -> dict[str, float | None]:
        """Metrics of how likely true values were, lower is better, the main one first: for what is asked from nothing,
        where answers could not be right. Each row's loss and parts, float64 [n]. Empty where the type has none."""
        return {}

    def likelihood_baselines(self, train: Sequence[Any], truths: Sequence[Any]) -> dict[str, np.ndarray]:
        """Name to the nats of each truth, float64 [n], by simple models of the training values."""
        return {}

    def features(self) -> Any:
        """A scikit-learn transformer from a list of raw values (None is missing) to a matrix, for baselines."""
        return None

    draws: int = 1  # answers to the same row that are judged together

    def views(self) -> dict[str, Any]:
        """Features by what sees them (`core.evaluation.Evaluation.views`)."""
        return {"linear": self.features()}

    def baselines(self) -> dict[str, Any]:
        """Name to scikit-learn estimator that predicts this column from features; the naive one first."""
        return {}

    def target(self, values: Sequence[Any]) -> np.ndarray:
        """Raw values as a scikit-learn target."""
        return np.asarray(values, dtype=object)

    def answers_from(self, estimator: Any, features: Any) -> list[Answer]:
        """A fitted baseline's predictions as answers, so that `metrics` judges both alike."""
        return [Answer(value) for value in estimator.predict(features)]

    def figure(
        self, answers: Sequence[Answer], truths: Sequence[Any], axes: Any, before: Sequence[Any] | None = None
    ) -> bool:
        """Draws the usual picture (confusion matrix, predicted against true) on matplotlib axes; false when none.

        `before` is told only to a `history`: what was seen.
        """
        return False

    @classmethod
    def show(cls, value: Any, on: Any = None) -> dict[str, str]:
        """A value for a person: `{"text": ...}`, `{"png": base64}`, or a sound and its picture, `{"wav", "png"}`.
        `on` is the value of the column it reads on."""
        return {"text": str(value)}

    def class_names(self) -> list[str] | None:
        """The closed set of answers, where there is one."""
        return None


class Sides(nn.Module):
    """Transition: the three sides of a type under the names of a codec, for call sites that have not moved yet."""

    kind: ClassVar[Any]

    def __init__(self, options: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.encoder = self.kind.encoder(options)
        self.evaluation = self.kind.evaluation(self.encoder)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            pass
        sides = [self.__dict__["encoder"], self.__dict__["evaluation"]]
        if "module" in self.__dict__:
            sides.insert(0, self.__dict__["module"])
        for side in sides:
            if hasattr(side, name):
                return getattr(side, name)
        raise AttributeError(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("encoder", "evaluation", "module", "training", "options") and hasattr(
            self.__dict__.get("encoder"), name
        ):
            setattr(self.encoder, name, value)
        elif name == "options":
            self.encoder.options = value
        elif name in ("encoder", "evaluation"):
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    @property
    def pooled(self) -> bool:
        return self.module.pooled

    def train(self, mode: bool = True) -> Any:
        if "module" in self.__dict__:
            self.module.train(mode)
        return super().train(mode)

    def build(self, width: int) -> None:
        module = self.kind.module(self.encoder, width)
        self.__dict__["module"] = module
        self._parameters, self._modules, self._buffers = module._parameters, module._modules, module._buffers
        self.train(self.training)

    def extend(self, values: Sequence[Any]) -> int:
        growth = self.encoder.extend(values)
        if "module" in self.__dict__:
            self.module.grow(growth)
        return len(growth)

    def dropped(self, content: Content, on: Content | None = None, place: np.ndarray | None = None) -> dict[str, int]:
        return self.encoder.dropped(content, None if on is None else Beside(on, place))

    def segment(
        self, content: Content, role: Role, keys: np.ndarray, augment: bool = False, on: On | None = None
    ) -> Segment:
        return self.encoder.segment(content, SegmentContext(role, keys, augment, on))

    def start(self, context: AnswerContext) -> State:
        return self.module.start(context)

    def positions(self, content: Content) -> np.ndarray:
        return self.encoder.max_positions(content)

    def successive(self, content: Content) -> tuple[Content, np.ndarray]:
        return self.encoder.successive_windows(content)

    def reads_on(self) -> str | None:
        return reads_on(self.encoder)

    def class_names(self) -> list[str] | None:
        return class_names(self.encoder)

    def goes_on(self, value: Any) -> bool:
        return isinstance(self.encoder, Prompted) and self.encoder.is_prompt(value)

    def split(self, value: Any) -> tuple[Any, Any]:
        return self.encoder.split(value) if isinstance(self.encoder, Prompted) else (None, value)

    def metrics(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        return self.evaluation.measure(answers, truths)

    @property
    def higher_is_better(self) -> bool:
        return self.evaluation.metrics()[0].higher_is_better

    def divergence(self, h: Tensor, teacher: Any, h_teacher: Tensor, temperature: float) -> Tensor:
        from onetrunk.core.module import Distribution

        if not isinstance(self.module, Distribution):
            raise UsageError(
                f"The column type {self.kind.name!r} has no distribution over a closed set that a student could "
                "learn from."
            )
        return self.module.divergence(h, getattr(teacher, "module", teacher), h_teacher, temperature)

    def likelihood(self, nats: np.ndarray, parts: np.ndarray, truths: Sequence[Any]) -> dict[str, float | None]:
        return getattr(self.evaluation, "likelihood", lambda *_: {})(nats, parts, truths)

    def likelihood_baselines(self, train: Sequence[Any], truths: Sequence[Any]) -> dict[str, np.ndarray]:
        return getattr(self.evaluation, "likelihood_baselines", lambda *_: {})(train, truths)

    def novelty(self, answers: Any, truths: Any, known: Any) -> dict[str, float | None]:
        return getattr(self.evaluation, "novelty", lambda *_: {})(answers, truths, known)


def sides_of(kind: Any) -> type[Sides]:
    """Transition: a class that stands for a converted type where a codec's class was."""
    from onetrunk.core.module import Guided, Searched

    encoder, module = kind.encoder, kind.module
    told = {
        "kind": kind,
        "ragged": encoder.ragged,
        "parts": encoder.has_parts,
        "shared": encoder.shared,
        "cached": encoder.costly,
        "guided": issubclass(module, Guided),
        "searches": issubclass(module, Searched),
        "continues": issubclass(encoder, Prompted),
        "history": issubclass(encoder, History),
        "read_out": module.read_out,
        "Options": encoder.Options,
    }
    for old, new in {
        "recognise": "recognise",
        "describe": "describe",
        "fingerprint": "fingerprint",
        "near": "near_duplicate_key",
        "kin": "split_group",
        "show": "show",
    }.items():
        told[old] = staticmethod(getattr(encoder, new))
    return type(f"Sides_{kind.name}", (Sides,), told)
