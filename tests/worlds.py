"""Small tables, stores and models for the tests; among them the sample values of every column type."""

from __future__ import annotations

import datetime
import io
import wave
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from onetrunk.core import rng
from onetrunk.core.answer import Sampling
from onetrunk.core.batch import Batch
from onetrunk.core.content import Content, ReadPositions, Role, Segment
from onetrunk.core.decoding import AnswerContext
from onetrunk.core.encoder import Beside, SegmentContext, reads_on
from onetrunk.core.objective import Objective, ObjectiveConfig, RoleAssignment
from onetrunk.core.registry import column_types, objectives
from onetrunk.data.ledger import Ledger
from onetrunk.data.pack import assemble
from onetrunk.data.prepare import encode, fit_columns
from onetrunk.data.store import Store
from onetrunk.data.table import Table
from onetrunk.inference.likelihood import reads_of
from onetrunk.inference.model_folder import Model, Task
from onetrunk.model import FoundationModel
from onetrunk.objectives import Learner

CPU = torch.device("cpu")
TRUNK = {"kind": "transformer", "width": 32, "layers": 2, "heads": 2}


@dataclass(frozen=True)
class Case:
    """Values of one column type, one that it must refuse, and when an answer is as good as memorised."""

    type: str
    values: list[Any]  # 12, the first 8 all different
    bad: Any
    right: Callable[[Any, Any], bool]
    options: dict[str, Any] = field(default_factory=dict)
    inferred: bool = True  # is this the type that these values are taken for?
    valid: bool = True  # is whatever an untrained model answers a value?
    steps: int = 160  # that suffice to memorise 8 of them; 0: a case beside it shows it
    on: tuple[str, list[Any]] | None = None  # type and values of the column `reads_on` names, where it reads on one


def _equal(answer: Any, truth: Any) -> bool:
    return answer == truth


def _drawing(i: int) -> np.ndarray:
    """A picture of its own for every i, uint8 [8, 8]."""
    coarse = (rng.uniform(rng.mix(np.array([i]), "drawing"), 4, 4)[0] > 0.5) * np.uint8(255)
    return np.kron(coarse, np.ones((2, 2), dtype=np.uint8))


def sound(i: int, seconds: float = 0.0) -> tuple[int, np.ndarray]:
    """A melody of its own for every i, as (rate, samples): three notes out of four, of 40 ms or more."""
    notes = np.array([300, 600, 1200, 2400])[[i % 4, i // 4 % 4, (i + i // 3) % 4]]
    n = int(8000 * (seconds or 0.12 + 0.04 * (i % 3)))
    frequency = notes[np.arange(n) * 3 // n]
    return 8000, (0.5 * np.sin(2 * np.pi * np.cumsum(frequency) / 8000)).astype(np.float32)


def same_sound(a: bytes, b: bytes) -> bool:
    """As long, and to 20 dB as loud at every pitch in every part. Phases are searched for from a beginning that a last
    bit can turn: they are not compared."""
    spectra = []
    for sound_file in (a, b):
        with wave.open(io.BytesIO(sound_file)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), dtype=np.int16) / 32768
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(samples, 128), 256)[::64]
        spectra.append(np.abs(np.fft.rfft(windows * np.hanning(256))))
    x, y = spectra
    return x.shape == y.shape and bool(np.square(x - y).mean() < 1e-2 * np.square(y).mean() + 1e-8)


def film(i: int, frames: int = 4, channels: int = 1) -> np.ndarray:
    """A light square that goes its own way for every i, uint8 [frames, 8, 8, channels]."""
    out = np.zeros((frames, 8, 8, channels), dtype=np.uint8)
    for t in range(frames):
        y, x = 2 * ((i + t * (1 + i // 8)) % 4), 2 * ((i // 4 + t) % 4)
        out[t, y : y + 2, x : x + 2, i % channels] = 255
    return out


def _same_melody(answer: bytes, truth: tuple[int, np.ndarray]) -> bool:
    """As long, and loudest at the same pitch in most parts."""
    encoder = column_types.get("audio").encoder({"bands": 16})
    encoder.fit([truth])
    a, t = (encoder.encode(v)["mel"].reshape(-1, 16).astype(np.float32) for v in (answer, truth))
    return len(a) == len(t) and bool((np.abs(a.argmax(1) - t.argmax(1)) <= 1).mean() > 0.7)


def _scene(i: int) -> list[dict[str, Any]]:
    """One or two boxes of 8 x 8 pixels, in a place of their own for every i; `_picture` shows them."""
    first = {"label": "ab"[i % 2], "box": [3 * (i % 3) + 0.0, 4 * (i // 3 % 3) + 0.0, 8.0, 8.0]}
    return [first] if i % 4 else [first, {"label": "b", "box": [22.0, 22.0, 8.0, 8.0]}]


def _picture(i: int) -> np.ndarray:
    """uint8 [32, 32]: what `_scene` says is there; a's are bright, b's dark."""
    pixels = np.full((32, 32), 128, dtype=np.uint8)
    for entry in _scene(i):
        x, y, w, h = map(int, entry["box"])
        pixels[y : y + h, x : x + w] = 255 if entry["label"] == "a" else 0
    return pixels


def _found(answer: Any, truth: Any) -> bool:
    """Every box, of its class, where it is; and no other that is as sure."""
    sure = [entry for entry in answer if entry["score"] > 0.4]
    near = [
        any(e["label"] == t["label"] and np.abs(np.subtract(e["box"], t["box"])).max() < 3 for e in sure) for t in truth
    ]
    return len(sure) == len(truth) and all(near)


_SENTENCES = [
    "the red boat", "a green tree", "一只白猫", "two blue birds", "今天下雨了", "no wind today",
    "the sea, the sea!", "你好, world", "never again", "old stone bridge", "三月的春天", "it rains in May",
]  # fmt: skip
_DAYS = [datetime.date(2020, 1, 1) + datetime.timedelta(days=101 * i) for i in range(12)]
_TAGS = [
    ["a"],
    ["b"],
    ["c"],
    ["a", "b"],
    ["a", "c"],
    ["b", "c"],
    ["a", "b", "c"],
    [],
    ["a"],
    ["b"],
    ["c"],
    ["b"],
]

_OPINIONS: list[Any] = [
    *({a: 0.75, b: 0.25} for a, b in zip("abcdefgh", "bcdefgha", strict=True)), "a", {"b": 1.0, "c": None},
    {"c": 0.6, "d": 0.4}, "d",
]  # fmt: skip


def _largest(answer: Any, truth: Any) -> bool:
    return bool(answer == max(truth, key=truth.get))


_MOLECULES = [
    "CCO", "c1ccccc1O", "CC(=O)Oc1ccccc1C(=O)O", "C[C@H](N)C(=O)O", "CC(C)Br", "C#N", "[Na+].[Cl-]", "C1CCNCC1",
    "CCO", "O=C=O", "FC(F)(F)c1ccccc1", "CCN(CC)CC",
]  # fmt: skip

_BASKETS = [
    [3, 5], [5], [8, 3, 5], [11, 2], [2, 2, 7], [7, 11], [13, 8], [17, 13, 3, 5], [3, 5, 8], [5, 8], [2, 7], [3],
]  # fmt: skip
_CLICKS = [
    {
        "page": [f"p{i}" for i in basket],
        "time": [60.0 * k**3 for k in range(len(basket))],
        "by": ["touch"] * len(basket),
    }
    for basket in _BASKETS
]


_LESSONS = [
    {"skill": [f"s{i % 5}" for i in basket], "correct": [(i + k) % 3 > 0 for k, i in enumerate(basket)]}
    for basket in _BASKETS
]


def _same_molecule(answer: Any, truth: Any) -> bool:
    """However it is written."""
    kind = column_types.get("molecule").encoder
    return kind.fingerprint(answer) == kind.fingerprint(truth)


def _first(answer: Any, truth: Any) -> bool:
    """Is the first step right?"""
    return (answer["page"] if isinstance(answer, dict) else answer)[0] == (
        truth["page"] if isinstance(truth, dict) else truth
    )[0]


def _waves(channels: int = 1) -> list[Any]:
    """Twelve waves of eight points, each of its own height, length and phase."""
    t = np.arange(8)
    result = [
        np.stack([(i + 1) * np.sin(t * (0.5 + 0.1 * i) + c) + i / 3 for c in range(channels)], axis=1)
        for i in range(12)
    ]
    return [x[:, 0].tolist() if channels == 1 else x.tolist() for x in result]


def _close(answer: Any, truth: Any) -> bool:
    a, t = np.array(answer), np.array(truth)
    return abs(a - t).mean() < 0.3 * np.std(_waves())


CASES: dict[str, Case] = {
    "text": Case("text", _SENTENCES, "\ud800", _equal),
    "text with bigrams": Case("text", _SENTENCES, "\ud800", _equal, {"bigrams": 32}, steps=0),
    "text by character": Case("text", _SENTENCES, "\ud800", _equal, {"unit": "character", "word_dropout": 0.2}),
    "category": Case("category", list("abcdefghabcd"), ["a", "b"], _equal),
    "category of numbers": Case(
        "category", [3, 1, 4, 15, 9, 2, 6, 5, 3, 1, 4, 2], {"a": 1}, _equal, {"balance": True}, inferred=False
    ),
    "category of levels": Case(
        "category", [3, 1, 4, 5, 2, 6, 8, 7, 3, 1, 4, 2], {"a": 1}, _equal, {"ordered": True}, inferred=False
    ),
    "category of levels in an order that is given": Case(
        "category", list("hagbfced") + list("abcd"), ["a", "b"], _equal, {"levels": list("ahbgcfde")}
    ),
    "category of distributions": Case("category", _OPINIONS, {"a": 0.5, "b": 0.9}, _largest),
    "category of distributions over levels": Case(
        "category", _OPINIONS, {"a": "all"}, _largest, {"levels": list("abcdefgh")}, steps=0
    ),
    "category, several at once": Case("category", _TAGS, {"a": 1}, _equal),
    "number": Case(
        "number", [-20.5, 3.25, 11, 47, 80.0, 130, 155.5, 199, 20, 33, 66, 99], "many",
        lambda a, t: abs(a - t) < 10,
    ),
    "date": Case("date", _DAYS, "yesterday", lambda a, t: abs((a - t).days) < 45),
    "series": Case("series", _waves(), ["up", "down"], _close, {"horizon": 8, "patch": 4}),
    "series of channels, with a history": Case(
        "series", _waves(2), [1.0, 2.0], _close, {"horizon": 3, "patch": 2, "horizons": [1]}, steps=0
    ),
    "image": Case(
        "image", [_drawing(i) for i in range(12)], b"not an image",
        lambda a, t: abs(a / 255.0 - t / 255.0).mean() < 0.1,
        steps=480,
    ),
    "molecule": Case("molecule", _MOLECULES, "C1CC", _same_molecule, valid=False),
    "trace": Case("trace", _LESSONS, {"skill": ["a"], "correct": "b"}, _equal, steps=0),
    "items": Case("items", _BASKETS, [[1]], _first, inferred=False),
    "items with fields": Case(
        "items", _CLICKS, {"page": 3}, _first, {"negatives": 2, "small": 4}, inferred=False, steps=0
    ),
    "image in colour, with a stem": Case(
        "image", [np.dstack([_drawing(i), _drawing(i + 50), _drawing(i + 99)]) for i in range(12)], "nowhere.png",
        lambda a, t: False, {"patch": 4, "stem": 4, "flip": True}, steps=0,
    ),
    "video": Case(
        "video", [film(i) for i in range(12)], b"not a film",
        lambda a, t: abs(a / 255.0 - t / 255.0).mean() < 0.1, {"frames": 4, "patch": 4, "stem": 4}, steps=480,
    ),
    "video in colour, of an odd number of frames": Case(
        "video", [film(i, 9, 3) for i in range(12)], "nowhere.mp4", lambda a, t: False,
        {"frames": 5, "patch": 3, "size": 9, "tube": 2, "flip": True, "stem": 2}, steps=0,
    ),
    "audio": Case(
        "audio", [sound(i) for i in range(12)], b"not a recording", _same_melody, {"bands": 16, "stem": 4}, steps=360
    ),
    "audio, longer than the context": Case(
        "audio", [sound(i, 0.5) for i in range(12)], (8000, np.zeros(4000)), lambda a, t: False,
        {"bands": 8, "length": 6, "step": 2, "mask_rate": 0.3}, steps=0,
    ),
    "image of large patches, with a stem in stages": Case(
        "image", [np.kron(_drawing(i), np.ones((2, 2), dtype=np.uint8)) for i in range(12)], b"",
        lambda a, t: False, {"size": 16, "patch": 8, "stem": 8, "flip": True, "turn": True}, steps=0,
    ),
    "boxes": Case(
        "boxes", [_scene(i) for i in range(12)], [{"label": "a", "box": [1, 2, 3]}], _found,
        {"mask_rate": 0.6, "min_score": 0.005}, steps=200, on=("image", [_picture(i) for i in range(12)]),
    ),
}  # fmt: skip


class Sides:
    """A column's encoder, evaluation and (once built) module under one name: whatever one of them has, it has."""

    def __init__(self, type_name: str, options: Mapping[str, Any] | None = None) -> None:
        self.kind, self.module = column_types.get(type_name), None
        self.encoder = self.kind.encoder(dict(options or {}))
        self.evaluation = self.kind.evaluation(self.encoder)

    @classmethod
    def of(cls, made: Model, column: str) -> Sides:
        """Those of a model's column."""
        sides = cls(made.columns[column].type)
        sides.encoder, sides.module, sides.evaluation = (
            made.encoder(column),
            made.module(column),
            made.evaluation(column),
        )
        return sides

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            for side in (self.__dict__.get(side) for side in ("module", "encoder", "evaluation")):
                if hasattr(side, name):
                    return getattr(side, name)
        raise AttributeError(name)

    def build(self, width: int) -> Sides:
        self.module = self.kind.module(self.encoder, width)
        return self

    def train(self, mode: bool = True) -> Sides:
        self.module.train(mode)
        return self

    def eval(self) -> Sides:
        return self.train(False)

    def extend(self, values: Sequence[Any]) -> int:
        growth = self.encoder.extend(values)
        if self.module is not None:
            self.module.grow(growth)
        return len(growth)

    def segment(
        self, content: Content, role: Role, keys: np.ndarray, augment: bool = False, on: ReadPositions | None = None
    ) -> Segment:
        return self.encoder.segment(content, SegmentContext(role, keys, augment, on))

    def dropped(self, content: Content, on: Content | None = None, index: np.ndarray | None = None) -> dict[str, int]:
        return self.encoder.dropped(content, None if on is None else Beside(on, index))


def fitted(case: Case, width: int | None = 16, values: Sequence[Any] | None = None) -> Sides:
    """The sides of this case, fitted on its values and, with a width, built."""
    sides = Sides(case.type, case.options)
    sides.fit(list(case.values) if values is None else list(values))
    return sides if width is None else sides.build(width)


def content_of(encoder: Any, values: Sequence[Any]) -> Any:
    """Encoded values, none of which may be bad."""
    ledger = Ledger()
    content, present = encoder.encode_all(values, lambda i, reason: ledger.add(reason, "", i, bad=True))
    assert present.all(), ledger.lines()
    return content


def keys(n: int, *parts: int | str) -> np.ndarray:
    return rng.mix(np.arange(n), "test", *parts)


def context(
    keys: np.ndarray, sampling: Sampling | None = None, prompt: Content | None = None, on: ReadPositions | None = None
) -> AnswerContext:
    """Of answers that are all drawn in one way, greedily unless told otherwise."""
    return AnswerContext.alike(keys, sampling or Sampling(), CPU, prompt, on)


def on_of(sides: Sides, keys: np.ndarray) -> ReadPositions | None:
    """For a column that is read on another: 4 x 4 positions in most documents, seen a little moved."""
    if reads_on(sides.encoder) is None:
        return None
    u = rng.uniform(rng.mix(keys, "on"), 2)
    frame = np.array([[16, 0, 16], [0, 16, 16]], dtype=np.float32) + np.float32([[0, 0, 1], [0, 0, 0]]) * u[:, :1, None]
    return ReadPositions(np.where(u[:, 1] < 0.1, 0, 16), {"frame": frame})


def segment(sides: Sides, content: Any, role: Role, keys: np.ndarray, augment: bool) -> Segment:
    """One that is read on another column is told positions of it when asked."""
    return sides.segment(content, role, keys, augment, on_of(sides, keys) if role == Role.ASKED else None)


def tensors(content: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in content.items()}


def model(
    table: Mapping[str, Sequence[Any]],
    types: Mapping[str, str],
    *,
    options: Mapping[str, dict[str, Any]] | None = None,
    trunk: Mapping[str, Any] = TRUNK,
    given: str = "bidirectional",
    awake: bool = True,
) -> Model:
    """A model whose encoders are fitted on the table. `awake`: no weight is zero, so nothing hides behind it."""
    rows = Table({name: list(values) for name, values in table.items()})
    columns, encoders = fit_columns(rows, list(types), types, options or {})
    network = FoundationModel(dict(trunk), columns, encoders, given)
    if awake:
        wake(network)
    return Model(network.eval())


def text_writer(texts: Sequence[str], **options: Any) -> Model:
    """A text-only model that says something; `options` are of the text."""
    trunk = {**TRUNK, "heads": 4, "kv_heads": 2}
    made = model({"note": texts}, {"note": "text"}, options={"note": options}, trunk=trunk, given="causal")
    with torch.no_grad():
        made.module("note").head.normal_(0, 0.5, generator=torch.Generator().manual_seed(3))
    made.tasks = [Task([], ["note"])]
    return made


def wake(module: torch.nn.Module | Sides) -> None:
    """Parameters that start at zero (read-outs, output projections, slots) get small random values."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        if not parameter.data.any():
            parameter.data.normal_(0, 0.2 / max(1, parameter.shape[-1]) ** 0.5, generator=generator)


def store_of(made: Model, table: Mapping[str, Sequence[Any]]) -> Store:
    rows = Table({name: list(values) for name, values in table.items()})
    return encode(rows, list(made.columns.values()), made.network.encoders, Ledger())


def token_logprobs(made: Model, column: str, text: str) -> torch.Tensor:
    """Log-probabilities [n, V] of what may stand at each place of a text, and behind it, by one pass over all of it."""
    h, _ = reads_of(made.network, store_of(made, {column: [text]}), [], column)
    module = made.module(column)
    with torch.no_grad():
        logits = torch.nn.functional.linear(*module.readout(h)).float()
    logits[:, list(module.encoder.special.never)] = -torch.inf
    return logits.log_softmax(-1)


def objective(store: Store, kind: str = "predict", **config: Any) -> Objective:
    return objectives.get(kind)(kind, ObjectiveConfig(kind=kind, **config), store.names, store.encoders)


def learner(made: Model, *objectives: Objective) -> Learner:
    """The model with what it learns from."""
    return Learner(made.network, objectives)


def group(
    store: Store, rows: Sequence[int], given: Sequence[str], ask: Sequence[str], masked: Sequence[str] = ()
) -> RoleAssignment:
    """Documents with fixed roles, as far as the values are there; keyed by row."""
    index = np.asarray(rows, dtype=np.int64)
    roles = np.full((len(index), len(store.names)), int(Role.ABSENT))
    for names_, role in ((given, Role.GIVEN), (ask, Role.ASKED), (masked, Role.MASKED)):
        for name in names_:
            roles[:, store.names.index(name)] = role
    return RoleAssignment(index, np.where(store.present[index], roles, Role.ABSENT), rng.mix(index, "document"))


def batch(store: Store, rows: Sequence[int], given: Sequence[str], ask: Sequence[str], **rest: Any) -> Batch:
    masked = rest.pop("masked", ())
    return assemble({"predict": group(store, rows, given, ask, masked)}, store, **{"augment": False, **rest})


def states_by_document(made: Model, result: Batch) -> dict[tuple[int, str], torch.Tensor]:
    """The trunk's states of each column in each document, (row, column) to [t, D], in order."""
    with torch.inference_mode():
        h = made.network.encode(result).h_ND
    T = result.layout.doc_BT.shape[1]
    doc = result.layout.doc_BT.flatten()
    gather = result.gather_N if result.gather_N is not None else torch.arange(doc.numel())
    out, first = {}, 0
    for name, embed in result.embeds.items():
        n = len(embed.role_n)
        where = ((gather >= first) & (gather < first + n)).nonzero()[:, 0]
        for d in doc[where].unique().tolist():
            out[int(result.row[d]), name] = h[where[doc[where] == d]]
        first += n
    assert T * len(result.layout.doc_BT) == len(h)
    return out
