"""Sequences of tokens: text, molecules. Their tokens' meanings, and tokenizers learnt from the user's rows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn

from onetrunk.core import rng
from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.batch import Loss
from onetrunk.core.column import Codec
from onetrunk.core.config import Config
from onetrunk.core.content import Content, Role, Segment, local_positions
from onetrunk.core.decoding import AnswerContext, Query, State, state_keys
from onetrunk.core.errors import UsageError
from onetrunk.nn.heads.categorical import choose, linear_cross_entropy, linear_divergence

SPECIALS = ["<|unknown|>", "<|start|>", "<|end|>", "<|mask|>"]
UNKNOWN, START, END, MASK = range(4)
MANY = 1000  # values; of so many, what occurs once is noise


@dataclass(frozen=True)
class Meaning:
    """Ids of tokens that mean something. A tokenizer learnt here has `OWN`; others keep what their model learnt."""

    unknown: int  # -1: everything can be spelt
    start: int
    end: int
    mask: int
    before: tuple[int, ...] = ()  # stand around every text that is read
    after: tuple[int, ...] = ()
    stops: tuple[int, ...] = ()  # also end what is written
    never: tuple[int, ...] = ()  # are not written

    @property
    def around(self) -> int:
        return len(self.before) + len(self.after)

    def wrap(self, ids: np.ndarray, lens: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Joined texts [n] and their lengths with `before` and `after` around each, and where the n are now."""
        if not self.around:
            return ids, lens, np.arange(len(ids))
        whole = lens + self.around
        ends = whole.cumsum()
        out = np.empty(int(whole.sum()), dtype=ids.dtype)
        for i, token in enumerate(self.before):
            out[ends - whole + i] = token
        for i, token in enumerate(self.after):
            out[ends - len(self.after) + i] = token
        where = np.repeat(ends - whole + len(self.before), lens) + local_positions(lens)
        out[where] = ids
        return out, whole, where


OWN = Meaning(UNKNOWN, START, END, MASK, never=(UNKNOWN, START, MASK))


@dataclass(frozen=True)
class Shape:
    """What a checkpoint's embedding and read-out have that ours have not."""

    rows: int = 0  # of both; more than the tokenizer knows are spare. 0: as many
    tied: bool = False  # one table is both
    bias: bool = False  # of the read-out
    transform: float = 0.0  # BERT's layer before the read-out: eps of its norm; 0: none


class TokenOptions(Config):
    """What a user may set of every sequence of tokens."""

    length: int = Field(256, ge=1, le=1_000_000)  # tokens of one value that the trunk sees: the context
    hide: float = Field(0.2, gt=0, le=1)  # share of tokens hidden when masked, on average
    embedding: int | None = Field(None, ge=1)  # numbers of a token's vector; zeros fill it up. None: the trunk's width
    pairs: int = Field(0, ge=0, le=1 << 22)  # at most so many frequent pairs of neighbours get vectors of their own
    drop: float = Field(0.0, ge=0, lt=1)  # share of given tokens, each with its pair, blanked in training: word dropout
    smoothing: float = Field(0.0, ge=0, lt=1)  # label smoothing in training (arXiv 1512.00567)


class TokenSequence(Codec):
    """Given: read at once. Asked: written from left to right until the end token. Masked: filled in place.

    A type of it makes values to tokens (`encode`, whose content is of `parts_of`) and back (`written`).
    """

    ragged = True
    parts = True
    shared = True
    continues = True
    searches = True
    cached = True

    Options = TokenOptions
    meaning: Meaning = OWN
    shape: Shape = Shape()
    size: int  # tokens that there are
    pairs: np.ndarray  # codes of the pairs of neighbours that have vectors, increasing

    @abstractmethod
    def written(self, ids: list[int]) -> str:
        """Tokens to a value."""

    def said(self, value: Any) -> str:
        """What of a value is to be written: all of it."""
        return str(value)

    def reply(self, ids: list[int], first: int) -> list[int]:
        """Of a whole text's tokens, those that are the answer; what was written begins at `first`."""
        return ids

    def _frequent_pairs(self, texts: Sequence[str]) -> np.ndarray:
        """Codes of the most frequent pairs of neighbours, increasing. What is met once is learnt by heart: left out."""
        if not self.options.pairs:
            return np.zeros(0, dtype=np.int64)
        content, _ = self.encode_all(texts, lambda i, reason: None)
        codes, counts = np.unique(_codes(content.gather()["id"], content.lens), return_counts=True)
        often = counts > (1 if len(texts) > MANY else 0)
        codes, counts = codes[often], counts[often]
        return np.sort(codes[np.argsort(-counts, kind="stable")[: self.options.pairs]])

    def build(self, width: int) -> None:
        own = self.options.embedding or width
        if own > width:
            raise UsageError(f"A token's vector has {own} numbers (embedding), more than the trunk's width, {width}.")
        self.missing = width - own
        self.table = nn.Parameter(torch.randn(self.size, own) * 0.05)
        if not self.shape.tied:
            self.head = nn.Parameter(torch.zeros(self.size, width))
        if self.shape.bias:
            self.bias = nn.Parameter(torch.zeros(self.size))
        self.transform = nn.Sequential()
        if self.shape.transform:
            self.transform = nn.Sequential(
                nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width, eps=self.shape.transform)
            )
        if self.options.pairs:
            self.pair_table = nn.Parameter(torch.zeros(1 + len(self.pairs), width))  # row 0: any other pair

    def _grow(self, like: list[list[int]]) -> None:
        """New tokens at the end of the vocabulary; each starts as the mean of the tokens `like` it."""
        for name in ("table", "head"):
            old = getattr(self, name).data
            rows = torch.stack([old[ids].mean(0) for ids in like])
            setattr(self, name, nn.Parameter(torch.cat([old, rows])))

    # -- values to parts ---------------------------------------------------------------------------------------------
    def blank(self) -> dict[str, np.ndarray]:
        return parts_of(np.array([self.meaning.end], dtype=np.int32))

    def windows(self, content: Content) -> np.ndarray:
        return np.maximum(1, -(-content.lens // self.options.length))

    def positions(self, content: Content) -> np.ndarray:
        return np.minimum(content.lens + max(1, self.meaning.around), self.options.length)

    def successive(self, content: Content) -> tuple[Content, np.ndarray]:
        """Cuts long texts into windows that cover every token once. Returns them and whose each is [w]."""
        count = self.windows(content)
        whose = np.repeat(np.arange(len(content)), count)
        first = local_positions(count) * self.options.length
        lens = np.minimum(content.lens[whose] - first, self.options.length)
        return content.take(whose).window(first, lens), whose

    # -- parts to positions ------------------------------------------------------------------------------------------
    def segment(self, content: Content, role: Role, keys: np.ndarray, augment: bool = False) -> Segment:
        if role == Role.ASKED:
            return self._written(content, keys if augment else None)
        mask = self.meaning.mask
        lens = np.minimum(content.lens, self.options.length - self.meaning.around)
        first = np.zeros_like(lens)
        if augment and role == Role.MASKED:
            first = rng.integers(rng.mix(keys, "window"), content.lens - lens + 1)
        ids = content.window(first, lens).gather()["id"]
        if role == Role.GIVEN:
            whole = lens
            ids, lens, where = self.meaning.wrap(ids, lens)
            shown = {"id": ids, **self._pairs(ids, lens)}
            if augment and self.options.drop > 0:
                dropped = np.zeros(len(shown["id"]), dtype=bool)
                dropped[where] = self._each(keys, whole, "drop") < self.options.drop
                blank = {"id": mask, "pair": 0}
                shown = {name: np.where(dropped, blank[name], array) for name, array in shown.items()}
            return Segment(shown, lens)
        rate = np.repeat(2 * self.options.hide * rng.uniform(rng.mix(keys, "rate")), lens)
        hidden = self._each(keys, lens, "hide") < rate
        fate = self._each(
            keys, lens, "fate"
        )  # as BERT (arXiv 1810.04805): 80 % mask, 10 % another token, 10 % as it is
        other = (self._each(keys, lens, "other") * self.size).astype(ids.dtype)
        shown = np.where(hidden & (fate < 0.8), mask, np.where(hidden & (fate < 0.9), other, ids))
        reads = np.flatnonzero(hidden)
        shown, lens, where = self.meaning.wrap(shown, lens)
        content = {"id": shown, **self._pairs(shown, lens)}
        targets = {"id": ids[reads].astype(np.int64), "w": np.ones(len(reads), dtype=np.float32)}
        return Segment(content, lens, reads=where[reads], targets=targets)

    def _pairs(self, shown: np.ndarray, lens: np.ndarray) -> dict[str, np.ndarray]:
        """The row of each shown token with the one before it in the table of pairs."""
        return {"pair": self._pair_rows(_codes(shown, lens))} if self.options.pairs else {}

    def _pair_rows(self, codes: np.ndarray) -> np.ndarray:
        place = np.searchsorted(self.pairs, codes)
        known = np.append(self.pairs, -1)[place] == codes
        return np.where(known, place + 1, 0)

    @staticmethod
    def _each(keys: np.ndarray, lens: np.ndarray, name: str) -> np.ndarray:
        """One uniform number a token, keyed by document and position."""
        return rng.uniform(rng.mix(np.repeat(rng.mix(keys, name), lens), local_positions(lens)))

    def _written(self, content: Content, keys: np.ndarray | None) -> Segment:
        """Inputs are start, t1 .. tn and targets t1 .. tn, end; of a text over the limit one window (the
        first without keys).

        A window that does not open the text is entered with the token before it. Windows may lie half outside before
        they are moved in: so the end is learnt as often as what stands in the middle.
        """
        limit, whole = self.options.length, content.lens + 1
        lens = np.minimum(whole, limit)
        first = np.zeros_like(lens)
        if keys is not None:
            beyond = np.where(whole > limit, lens - 1, 0)
            drawn = rng.integers(rng.mix(keys, "window"), whole - lens + 1 + 2 * beyond) - beyond
            first = np.clip(drawn, 0, whole - lens)
        local = local_positions(lens)
        place = np.repeat(first, lens) + local  # of the target, in t1 .. tn, end
        starts, ends = np.repeat(content.starts, lens), np.repeat(content.lens, lens)
        ids = content.data["id"]
        padded = np.append(ids, 0) if len(ids) else np.zeros(1, dtype=np.int32)
        targets = np.where(place < ends, padded[np.minimum(starts + place, len(ids))], self.meaning.end)
        before = padded[np.maximum(starts + place - 1, 0)]
        opens = (place == 0) & (np.append(content.data["opens"], True)[np.minimum(starts, len(ids))] | (ends == 0))
        # The end is learnt where what it ends is; that of an empty text too.
        learnt = np.append(content.data["learnt"], True)[starts + np.minimum(place, np.maximum(ends - 1, 0))]
        inputs = np.where(opens, self.meaning.start, before)
        return Segment(
            {"id": inputs, **self._pairs(inputs, lens)},
            lens,
            order=local,
            reads=np.arange(len(local), dtype=np.int64),
            targets={"id": targets.astype(np.int64), "w": (learnt | (ends == 0)).astype(np.float32)},
        )

    def embed(self, content: dict[str, Tensor]) -> Tensor:
        x = F.pad(F.embedding(content["id"], self.table), (0, self.missing))
        return x + F.embedding(content["pair"], self.pair_table) if self.options.pairs else x

    # -- positions to answers ----------------------------------------------------------------------------------------
    def readout(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Two matrices whose product `h weight^T` is the logits: [..., D'] and [V, D']."""
        h, weight = self.transform(h), self.table if self.shape.tied else self.head
        if self.shape.bias:
            h = torch.cat([h, torch.ones_like(h[..., :1])], dim=-1)
            weight = torch.cat([weight, self.bias[:, None]], dim=1)
        return h, weight

    def loss(self, h: Tensor, targets: dict[str, Tensor]) -> Loss:
        smoothing = self.options.smoothing if self.training else 0.0
        total, each = linear_cross_entropy(*self.readout(h), targets["id"], targets["w"], smoothing)
        return Loss(total, targets["w"].sum(), each)

    def divergence(self, h: Tensor, teacher: Self, h_teacher: Tensor, temperature: float) -> Tensor:
        return linear_divergence(*self.readout(h), *teacher.readout(h_teacher), temperature)

    def start(self, context: AnswerContext) -> State:
        """Start and the prompt's tokens (the last ones that leave room in the context), then what is written.

        A document's tokens are `ids[:, :size]`, of which `seen` have been through the trunk; the first `prompted` are
        not its own, and `written` are. Padding follows. `phase` 0 reads the prompt, 1 goes on token by token.
        """
        n, device, prompt, beams = context.n, context.device, context.prompt, context.beams
        room = self.options.length - 1
        kept = [[]] * n if prompt is None else [ids[max(0, len(ids) - room) :] for ids in _each_of(prompt)]
        size = torch.tensor([1 + len(ids) for ids in kept])
        ids = torch.full((n, int(size.max()) if n else 1), self.meaning.end)
        for i, tokens in enumerate(kept):
            ids[i, : len(tokens) + 1] = torch.tensor([self.meaning.start, *tokens])
        logprob = torch.zeros(n, device=device)
        if beams > 1:  # they are alike until the first has been gone on from in several ways
            logprob.view(-1, beams)[:, 1:] = -torch.inf
        return context.state("temperature", "top_k", "top_p", "max_length", "beams") | {
            "phase": torch.zeros(n, dtype=torch.int64, device=device),
            "ids": ids.to(device),
            "size": size.to(device),
            "seen": torch.zeros(n, dtype=torch.int64, device=device),
            "prompted": size.to(device),
            "written": torch.zeros(n, dtype=torch.int64, device=device),
            "logprob": logprob,
        }

    def query(self, state: State) -> Query:
        """All tokens that have not been through the trunk: the prompt's at first, then one at a time."""
        ids, size, seen = state["ids"], state["size"], state["seen"]
        t = int((size - seen).max())
        place = seen[:, None] + torch.arange(t, device=ids.device)
        chosen = ids.gather(1, place.clamp(max=ids.shape[1] - 1))
        content = {"id": chosen.flatten()}
        if self.options.pairs:
            before = torch.where(place > 0, ids.gather(1, (place - 1).clamp(0, ids.shape[1] - 1)), -1)
            rows = self._pair_rows(_code(before.cpu().numpy(), chosen.cpu().numpy()))
            content["pair"] = torch.from_numpy(rows).to(ids.device).flatten()
        return Query(content, t=t, causal=True, keep=True, pos=seen, valid=place < size[:, None])

    def step(self, state: State, h: Tensor, unconditional: Tensor | None) -> State:
        beams = int(state["beams"][0])
        size, end = state["size"], self.meaning.end
        logits = F.linear(*self.readout(h[torch.arange(len(h)), size - state["seen"] - 1])).float()
        logits[:, list(self.meaning.never)] = -torch.inf
        gained = logits.log_softmax(-1)
        gained[state["done"]] = -torch.inf  # what has ended stays as it is
        gained[state["done"], end] = 0
        written = state["written"] + ~state["done"]
        if beams > 1:
            order, drawn = _best(state["logprob"][:, None] + gained, written, beams)
            state = {name: x[order.to(x.device)] for name, x in state.items()}
            written, gained = written[order], gained[order]
            state["order"] = order
        else:
            u = rng.uniform(rng.mix(state_keys(state), size.cpu().numpy()))
            u = torch.from_numpy(u).to(h.device)
            drawn = choose(logits, u, state["temperature"], state["top_k"], state["top_p"])
            drawn = torch.where(state["done"], end, drawn)
        logprob = state["logprob"] + gained.gather(1, drawn[:, None])[:, 0]
        ids = state["ids"]
        if int(size.max()) == ids.shape[1]:
            ids = torch.cat([ids, torch.full_like(ids[:, :1], end)], dim=1)
        ids = ids.scatter(1, size[:, None], drawn[:, None])
        full = (size + 1 - state["prompted"] >= state["max_length"]) | (size >= self.options.length)
        ended = torch.isin(drawn, torch.tensor([end, *self.meaning.stops], device=h.device))
        done = state["done"] | ended | full
        new = {"done": done, "ids": ids, "size": size + 1, "seen": size, "written": written, "logprob": logprob}
        return {**state, **new, "phase": torch.ones_like(size)}

    def answer_positions(self, prompt: np.ndarray, sampling: Sampling) -> np.ndarray:
        return np.minimum(1 + prompt + sampling.max_length, self.options.length + 1)

    def finish(self, state: State) -> list[Answer]:
        """Each whole text, its prompt included; the probability is of what was written after that."""
        answers, ends = [], {self.meaning.end, *self.meaning.stops}
        rows = (state[name].tolist() for name in ("ids", "size", "prompted", "logprob"))
        for ids, size, prompted, logprob in zip(*rows, strict=True):
            ids, first = ids[1:size], prompted - 1
            ids = ids[: next((i for i in range(first, len(ids)) if ids[i] in ends), None)]
            answers.append(Answer(self.written(self.reply(ids, first)), float(np.exp(logprob)), logprob=logprob))
        return answers

    # -- evidence ----------------------------------------------------------------------------------------------------
    def per_row(self, answers: Sequence[Answer], truths: Sequence[Any]) -> np.ndarray | None:
        return np.array([str(a.value) == str(t) for a, t in zip(answers, truths, strict=True)], dtype=np.float64)

    def likelihood(self, nats: np.ndarray, parts: np.ndarray, truths: Sequence[Any]) -> dict[str, float | None]:
        from onetrunk.metrics.text import likelihood

        total, size = float(nats.sum()), sum(len(self.said(t).encode()) for t in truths)
        found = likelihood(-total, int(parts.sum()), size)
        loss = total / float(parts.sum()) if parts.sum() else None
        return {"bits_per_byte": found["bits_per_byte"], "perplexity": found["perplexity"], "loss": loss}

    def likelihood_baselines(self, train: Sequence[Any], truths: Sequence[Any]) -> dict[str, np.ndarray]:
        from onetrunk.metrics.text import ngram_nats

        known, truths = [self.said(t) for t in train], [self.said(t) for t in truths]
        return {
            "bytes by frequency": ngram_nats(known, truths, 1),
            "5-grams of bytes": ngram_nats(known, truths, 5),
        }

    def baselines(self) -> dict[str, Any]:
        from sklearn.dummy import DummyClassifier
        from sklearn.neighbors import KNeighborsClassifier

        return {"most frequent": DummyClassifier(strategy="prior"), "nearest neighbour": KNeighborsClassifier(1)}

    def target(self, values: Sequence[Any]) -> np.ndarray:
        return np.array([self.said(v) for v in values], dtype=object)


def _best(logprob: Tensor, written: Tensor, beams: int) -> tuple[Tensor, Tensor]:
    """Of `beams` neighbouring documents together, the best ways to go on by log-probability a token (Wu et al. 2016,
    arXiv 1609.08144, with alpha = 1): which document each goes on from, and with what token, int64 [n] each.

    `logprob` [n, V] is of a document with each token; `written` [n] how many tokens that makes.
    """
    n, size = logprob.shape
    best = (logprob / written[:, None]).view(-1, beams * size).topk(beams, dim=-1).indices
    first = torch.arange(0, n, beams, device=logprob.device)[:, None]
    return (first + best // size).flatten(), (best % size).flatten()


def _each_of(content: Content) -> list[list[int]]:
    """The tokens of every text."""
    ids = content.data["id"]
    return [ids[a : a + n].tolist() for a, n in zip(content.starts.tolist(), content.lens.tolist(), strict=True)]


def _code(before: np.ndarray, token: np.ndarray) -> np.ndarray:
    """One number a pair, int64; `before` is -1 where there is none. It stays the same as the vocabulary grows."""
    return ((before.astype(np.int64) + 1) << 32) + token


def _codes(ids: np.ndarray, lens: np.ndarray) -> np.ndarray:
    """Codes of each token [n] with the one before it in its text."""
    return _code(np.where(local_positions(lens) > 0, np.roll(ids, 1), -1), ids)


def parts_of(ids: np.ndarray, learnt: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Tokens of one text, which of them opens it, and which are learnt when it is asked (None: all)."""
    return {
        "id": ids,
        "opens": np.arange(len(ids)) == 0,
        "learnt": np.ones(len(ids), dtype=bool) if learnt is None else learnt,
    }


def character_tokenizer(characters: list[str]) -> Tokenizer:
    vocabulary = {token: i for i, token in enumerate(SPECIALS + characters)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIALS[UNKNOWN]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def train_bpe(texts: list[str], vocabulary: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIALS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
