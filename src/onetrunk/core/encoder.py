"""The data side of a column type: what its values are, and how they become numbers. NumPy only, no torch.

An encoder is the fitted, JSON-able knowledge of one type (vocabulary, classes, scale), learnt from training rows only.
Inspecting, splitting and encoding a table need nothing else; its module (`core.module`) holds the parameters, its
evaluation (`core.evaluation`) judges answers.

What only some types can do is a small class of its own, which an encoder inherits or does not, asked with
`isinstance`: `Prompted`, `Gapped`, `History`, `ReadsAnother`, `ClosedSet`, `Spelt`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from onetrunk.core.config import Config
from onetrunk.core.content import Content, ReadPositions, Role, Segment, cut_into_windows, window_counts
from onetrunk.core.errors import BadValueError


@dataclass(frozen=True)
class SegmentContext:
    """What placing m documents of one column may depend on. All randomness comes from `keys` uint64 [m]."""

    role: Role
    keys: np.ndarray
    augment: bool = False  # in training: corruption, noise and augmentation of what is given
    read_positions: ReadPositions | None = None  # of the column that an asked one is read on (`ReadsAnother`)


@dataclass(frozen=True)
class Beside:
    """The content of another column, and where in it stands what belongs to each of m values: `index` int64 [m], -1
    where it is missing."""

    content: Content
    index: np.ndarray


@dataclass
class Growth:
    """What `Encoder.extend` added: for each table of classes or words, one entry a new row, the rows whose mean it
    begins as (an empty list: the mean of all)."""

    tables: dict[str, list[list[int]]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self.tables.values()))


@dataclass(frozen=True)
class Convention:
    """How a column's values are written: as options of its type, and in words for a person."""

    options: dict[str, Any]
    message: str
    sure: bool = True  # do the values themselves say so?


class Encoder(ABC):
    """Base of all encoders. `fit` or `set_knowledge`, then everything else."""

    Options: ClassVar[type[Config]] = Config  # what a user may set: `columns: {review: {type: ..., <option>: ...}}`
    type_name: ClassVar[str]  # the name of the column type; set when the type is registered
    ragged: ClassVar[bool] = False  # does one value become a varying number of elements (tokens, patches, steps)?
    divisible: ClassVar[bool] = False  # can some of one value be masked, and can two views of it be made?
    shared: ClassVar[bool] = False  # do columns of this type share one encoder and module unless told otherwise?
    costly: ClassVar[bool] = False  # do values take so long to learn from and encode that both are worth keeping?
    notations: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # `--types day=date:dmy`: a name to the options it means

    def __init__(self, options: dict[str, Any] | None = None) -> None:
        self.options = self.Options.parse(options or {}, f"the options of a {self.type_name} column")

    # -- values ------------------------------------------------------------------------------------------------------
    @classmethod
    @abstractmethod
    def recognise(cls, values: Sequence[Any]) -> float:
        """How much a sample of present values looks like this type: 0 (not at all) to 1."""

    @classmethod
    @abstractmethod
    def describe(cls, values: Sequence[Any]) -> dict[str, Any]:
        """A person's summary of present values: ranges, lengths, classes, samples; JSON-able, in reading order."""

    @classmethod
    def notation(cls, name: str) -> Mapping[str, Any] | None:
        """The options that this word after a type means (`--types day=date:dmy`); None where it means nothing."""
        return cls.notations.get(name)

    @classmethod
    def convention(cls, values: Sequence[Any], likely: Mapping[str, Any]) -> Convention | None:
        """How all present values of a column are written, where that can be read in several ways; `likely` are the
        options of other columns of the table. None where there is nothing to decide."""
        return None

    @classmethod
    def fingerprint(cls, value: Any) -> str:
        """Equal for equal values: for duplicates and leaks."""
        return str(value)

    @classmethod
    def near_duplicate_key(cls, value: Any) -> str | None:
        """Equal for values that a person would call nearly the same; None where the type has no such notion."""
        return None

    @classmethod
    def split_group(cls, value: Any) -> str | None:
        """Equal for values so alike that a strict split keeps them together (a molecule's scaffold); None where the
        type has no such notion."""
        return None

    @classmethod
    def show(cls, value: Any, on: Any = None) -> dict[str, str]:
        """A value for a person: `{"text": ...}`, `{"png": base64}`, or a sound and its picture, `{"wav", "png"}`.
        `on` is the value of the column it is read on (`ReadsAnother`)."""
        return {"text": str(value)}

    # -- knowledge ---------------------------------------------------------------------------------------------------
    @abstractmethod
    def fit(self, values: Sequence[Any]) -> None:
        """Learns vocabulary, classes or scale from present training values. DataError when they cannot be used."""

    def extend(self, values: Sequence[Any]) -> Growth:
        """Adds new classes or words; the rows of old ones stay as they are. The module follows with `grow`."""
        return Growth()

    @abstractmethod
    def knowledge(self) -> dict[str, Any]:
        """Everything `fit` learnt, as JSON. Options travel beside it."""

    @abstractmethod
    def set_knowledge(self, knowledge: dict[str, Any]) -> None:
        """The inverse of `knowledge`."""

    def assets(self) -> dict[str, str]:
        """Standard files that go beside the model, name to text (a `tokenizer.json`)."""
        return {}

    # -- values to arrays ----------------------------------------------------------------------------------------------
    @property
    def unit(self) -> str:
        """What its values are in, as a person writes it; empty where they are in nothing, or in nobody knows what."""
        return ""

    @property
    def reads_cells(self) -> bool:
        """Does it read a text file's cells as they are written there, and not the numbers, truth values or dates that a
        column of them looks like?"""
        return False

    def plain(self, values: list[Any]) -> list[Any]:
        """Values as training rows had them, whatever spelling or type they come in; None is missing, and what means
        nothing stays as it is. The same list where nothing changes."""
        return values

    @abstractmethod
    def encode(self, value: Any) -> dict[str, np.ndarray]:
        """One value to arrays: deterministic. Raises BadValueError with the reason."""

    def encode_all(self, values: Sequence[Any], bad: Callable[[int, str], None]) -> tuple[Content, np.ndarray]:
        """All values (None is missing) to content, and `present` bool [m]: false where missing or bad.

        `bad(i, reason)` is called for every value that could not be encoded. Content holds present values only.
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
        return self.stack(items), present

    def stack(self, items: list[dict[str, np.ndarray]]) -> Content:
        """What `encode` made of single values, joined; of no values, content of length 0."""
        if not items:
            return Content.stack([self.blank()], self.ragged).take(np.zeros(0, dtype=np.int64))
        return Content.stack(items, self.ragged)

    @abstractmethod
    def blank(self) -> dict[str, np.ndarray]:
        """An encoding with the right names, types and shapes, of no particular value."""

    teaches_nothing: ClassVar[str] = ""  # what to say where no value of an asked column `teaches`

    def teaches(self, content: Content) -> np.ndarray:
        """From which values something is learnt where they are asked, bool [m]."""
        return np.ones(len(content), dtype=bool)

    def dropped(self, content: Content, read_on: Beside | None = None) -> dict[str, int]:
        """What training would cut or could not represent, reason to count of elements, for the ledger. `read_on` is the
        column that this one is read on (`ReadsAnother`)."""
        return {}

    def loses_nothing(self, values: Sequence[Any]) -> bool:
        """Would training surely take all of these present values whole, whatever it learns from them? Asked before
        `fit`: what nothing can be said of is fitted and encoded to find out."""
        return False

    @property
    def window_length(self) -> int | None:
        """How many elements of a value the trunk sees at once: longer ones are cut into windows. None where no value is
        cut."""
        return None

    def windows(self, content: Content) -> np.ndarray:
        """How many training windows each value holds, int64 [m]: more than 1 only for what exceeds the context."""
        length = self.window_length
        return np.ones(len(content), dtype=np.int64) if length is None else window_counts(content.lens, length)

    def successive_windows(self, content: Content) -> tuple[Content, np.ndarray]:
        """Windows that cover every element of every value once, and whose each is, int64 [w]."""
        length = self.window_length
        return (content, np.arange(len(content))) if length is None else cut_into_windows(content, length)

    def max_positions(self, content: Content) -> np.ndarray:
        """At most how many positions each value takes in a sequence, int64 [m]."""
        return np.ones(len(content), dtype=np.int64)

    # -- arrays to positions -------------------------------------------------------------------------------------------
    @abstractmethod
    def segment(self, content: Content, context: SegmentContext) -> Segment:
        """Positions of m documents in one role.

        `targets["w"]` float32 [r] weighs every read (1, or class weights); the sum of it is the loss's count. A column
        that is read on another takes no positions of its own when asked, and its `reads` count the other's.
        """


class Prompted:
    """Answers can go on from a prompt: a value that they begin with."""

    def is_prompt(self, value: Any) -> bool:
        """Is an asked row's own value what its answer goes on from, without being told so (a conversation)?"""
        return False

    def split(self, value: Any) -> tuple[Any, Any]:
        """A value as what was seen before and what came then: how answers that go on are judged. Of a value that is no
        prompt, None and the value.

        Raises BadValueError where it is too short for that.
        """
        return None, value


class Gapped(ABC):
    """Values may have gaps, which are filled in from what stands around them: hidden words of a text."""

    @property
    @abstractmethod
    def gap(self) -> str:
        """How a gap is spelt."""

    @property
    @abstractmethod
    def answers_by(self) -> Literal["writing", "filling", "nothing"]:
        """What its model learnt to do when it is asked. One that writes may fill gaps in too."""

    @abstractmethod
    def encode_gaps(self, value: Any) -> dict[str, np.ndarray]:
        """As `encode`, of a value with gaps. Raises BadValueError for one without."""

    @abstractmethod
    def is_gap(self, content: Mapping[str, np.ndarray]) -> np.ndarray:
        """Which positions of a segment's content are gaps, bool [n]."""

    @abstractmethod
    def filled(self, value: Any, choices: Sequence[int]) -> Any:
        """The value with its gaps filled in with these, in order."""


class History(Prompted):
    """Every value goes on from the row's own, which is what was seen before (items bought, lessons taken)."""

    def is_prompt(self, value: Any) -> bool:
        return True


class ReadsAnother(ABC):
    """Can be read out on the positions of another column when asked (boxes on an image)."""

    @property
    @abstractmethod
    def on(self) -> str | None:
        """The other column; None where the options say that it has positions of its own."""


class Located(ReadsAnother):
    """Answers are places in the other column's pictures: a list, the best first, of `{"label": one of classes,
    "box": [x, y, width, height] in pixels, "score": 0 to 1}`."""

    classes: list[str]


class Ordered(ABC):
    """Values lie on a line: rows can be ordered by them."""

    @abstractmethod
    def to_line(self, value: Any) -> float:
        """A finite position. Raises BadValueError with the reason."""


class EqualAsNumbers:
    """Ints and floats have one fingerprint where Python calls them equal."""


class ClosedSet(ABC):
    """Answers are of a closed set."""

    @abstractmethod
    def class_names(self) -> list[str]:
        """All of them, in order."""


class Symmetric(ABC):
    """Values may be changed in ways on which other columns often do not depend (a mirrored picture, or one of which a
    little is covered). Where the options
    do not say whether that is so here, data decide (`training.symmetries`); what is allowed augments training."""

    @abstractmethod
    def undecided(self) -> Mapping[str, str]:
        """Such changes, as far as nobody has decided on them: the option's name, and what changed values are then."""

    @abstractmethod
    def changed(self, content: Content, change: str) -> Content:
        """All values changed so."""

    @abstractmethod
    def decide(self, change: str, allowed: bool) -> None:
        """From now on training changes values so, or does not."""


class Spelt(ABC):
    """Its values are written token by token, and every token is some bytes of the value's text."""

    @abstractmethod
    def spellings(self) -> list[bytes]:
        """UTF-8 of every token by number, which may be half of a character; empty for those that are no text. Raises
        UsageError where a token's bytes depend on its neighbours."""

    @abstractmethod
    def ends(self) -> list[int]:
        """The tokens that end a value."""


class FreeText:
    """Values are texts in a person's own words."""


class FileAnswers(ABC):
    """Values are files; each answer is a file of its own in a table of answers (a picture, a film, a sound)."""

    media: ClassVar[str]  # of its values: the first word of their MIME types
    suffix: ClassVar[str]  # of the name of an answer's file

    @classmethod
    @abstractmethod
    def as_file(cls, answer: Any) -> bytes:
        """The file."""

    @classmethod
    def sheet(cls, answers: Sequence[Any]) -> bytes | None:
        """Some answers at a glance, as a PNG file; None where they cannot stand side by side."""
        return None


def is_generated(encoder: Encoder) -> bool:
    """Are answers made, written or drawn, rather than chosen, measured or picked from what is known?"""
    return isinstance(encoder, FileAnswers) or (isinstance(encoder, Prompted) and not isinstance(encoder, History))


def is_prompt(encoder: Encoder, value: Any) -> bool:
    """Is an asked row's own value what its answer goes on from, without being told so?"""
    return isinstance(encoder, Prompted) and encoder.is_prompt(value)


def reads_on(encoder: Encoder) -> str | None:
    """The column on whose positions this one is read out when asked; None: on its own."""
    return encoder.on if isinstance(encoder, ReadsAnother) else None


def class_names(encoder: Encoder) -> list[str] | None:
    """The closed set of answers, where there is one."""
    return encoder.class_names() if isinstance(encoder, ClosedSet) else None


@dataclass
class Column:
    """A column of a table: its type, and whose encoder and module serve it."""

    name: str
    type: str
    key: str  # of its encoder and module in the model: columns of one type may share one

    def as_json(self) -> dict[str, str]:
        return {"name": self.name, "type": self.type, "key": self.key}
