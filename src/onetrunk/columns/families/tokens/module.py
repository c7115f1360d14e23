"""Tokens in the network: a table of vectors, a read-out over the vocabulary, and writing from left to right."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import ClassVar, Self, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onetrunk.columns.families.tokens.bigrams import bigram_code, bigram_rows
from onetrunk.columns.families.tokens.encoder import TokenEncoder
from onetrunk.columns.families.tokens.special_tokens import SPECIALS
from onetrunk.core import rng
from onetrunk.core.answer import MOST_TOP_LOGPROBS, Answer, Sampling, Written
from onetrunk.core.batch import Loss
from onetrunk.core.content import Content
from onetrunk.core.decoding import AnswerContext, Query, State, state_keys
from onetrunk.core.encoder import Growth
from onetrunk.core.errors import UsageError
from onetrunk.core.module import (
    Blockwise,
    ColumnModule,
    Constrained,
    Distribution,
    Filling,
    Growing,
    Searched,
    grown,
)
from onetrunk.nn.block import ActivationLayer
from onetrunk.nn.heads.categorical import choose, linear_cross_entropy, linear_divergence
from onetrunk.nn.init import normal
from onetrunk.nn.kernels.cpu.linear import FixedLinear

E = TypeVar("E", bound=TokenEncoder)
_BLOCKS, _REST, _TOKENS = range(3)  # phases: blocks of the prompt, the rest of it, token by token


class TokenModule(ColumnModule[E], Searched, Distribution, Filling, Growing, Constrained, Blockwise):
    """Written answers are sampled token by token, or searched for with beams."""

    block: ClassVar[int] = 64
    _fixed: FixedLinear | None = None  # the read-out of one that only answers

    def __init__(self, encoder: E, width: int) -> None:
        super().__init__(encoder, width)
        options, head = encoder.options, encoder.token_head
        embedding = options.embedding or width
        if embedding > width:
            raise UsageError(
                f"A token's vector has {embedding} numbers (embedding), more than the trunk's width, {width}."
            )
        self.missing = width - embedding
        self.table = nn.Parameter(normal(encoder.size, embedding, std=0.05))
        read = embedding if head.transform else width  # numbers that the read-out reads
        if not head.tied:
            self.head = nn.Parameter(torch.zeros(encoder.size, read))
        if head.bias:
            self.bias = nn.Parameter(torch.zeros(encoder.size))
        self.transform = nn.Sequential()
        if head.transform:
            self.transform = nn.Sequential(
                nn.Linear(width, read), ActivationLayer(head.activation), nn.LayerNorm(read, eps=head.transform)
            )
        if options.bigrams:
            self.bigram_table = nn.Parameter(torch.zeros(1 + len(encoder.bigrams), width))  # row 0: any other bigram

    def grow(self, growth: Growth) -> None:
        """New tokens; a checkpoint's tokenizer, with all that its read-out may have more, never grows."""
        if new := growth.tables.get("tokens"):
            self.table, self.head = (grown(table, new, len(SPECIALS)) for table in (self.table, self.head))

    def embed(self, content: dict[str, Tensor]) -> Tensor:
        x = F.pad(F.embedding(content["id"], self.table), (0, self.missing))
        return x + F.embedding(content["bigram"], self.bigram_table) if self.options.bigrams else x

    # -- positions to answers ----------------------------------------------------------------------------------------
    def readout(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """What `F.linear` makes the logits of: [..., D'], [V, D'] and, where there is one, a bias [V]."""
        weight = self.table if self.encoder.token_head.tied else self.head
        return self.transform(h), weight, self.bias if self.encoder.token_head.bias else None

    def fix(self, dtype: torch.dtype) -> None:
        weight = self.table if self.encoder.token_head.tied else self.head
        self._fixed = FixedLinear(weight, self.bias if self.encoder.token_head.bias else None, dtype)

    def _logits(self, h: Tensor) -> Tensor:
        """h [..., D] to float32 [..., V], where no gradient is asked for."""
        if self._fixed is None:
            return F.linear(*self.readout(h)).float()
        return self._fixed(self.transform(h)).float()

    def loss(self, h: Tensor, targets: dict[str, Tensor]) -> Loss:
        smoothing = self.options.smoothing if self.training else 0.0
        total, each = linear_cross_entropy(*self.readout(h), targets["id"], targets["w"], smoothing)
        return Loss(total, targets["w"].sum(), each)

    def fill(self, h: Tensor) -> tuple[Tensor, Tensor]:
        logits = self._logits(h)
        logits[:, [self.encoder.special.mask, *self.encoder.controls]] = -torch.inf  # which nobody reads
        best = logits.log_softmax(-1).max(-1)
        return best.indices, best.values

    def divergence(self, h: Tensor, teacher: Self, h_teacher: Tensor, temperature: float) -> Tensor:
        return linear_divergence(*self.readout(h), *teacher.readout(h_teacher), temperature)

    # -- the decoding loop -------------------------------------------------------------------------------------------
    def start(self, context: AnswerContext) -> State:
        """Start and the prompt's tokens (the last ones that leave room in the context), then what is written.

        A document's tokens are `ids[:, :size]`, of which `seen` have been through the trunk; the first `prompted` are
        not its own, and `written` are. Padding follows. Where likeliest tokens are asked for, `top_ids` and
        `top_values` [n, t, K] hold them by token written.
        """
        n, device, prompt, beams = context.n, context.device, context.prompt, context.beams
        special, room = self.encoder.special, self.options.length - 1
        prompts = [([], special.start, False)] * n if prompt is None else _prompts(prompt, special.start)
        kept = [ids[max(0, len(ids) - room) :] for ids, _, _ in prompts]
        size = torch.tensor([1 + len(ids) for ids in kept])
        ids = torch.full((n, int(size.max()) if n else 1), special.end)
        for i, tokens in enumerate(kept):
            ids[i, : len(tokens) + 1] = torch.tensor([prompts[i][1], *tokens])
        logprob = torch.zeros(n, device=device)
        if beams > 1:  # they are alike until the first has been gone on from in several ways
            logprob.view(-1, beams)[:, 1:] = -torch.inf
        zeros, size = torch.zeros(n, dtype=torch.int64, device=device), size.to(device)
        held = any(sampling.grammar is not None for sampling in context.sampling)
        likeliest = (n, int(any(s.top_logprobs for s in context.sampling)), min(MOST_TOP_LOGPROBS, self.encoder.size))
        own = ("temperature", "top_k", "top_p", "min_p", "max_length", "beams", "top_logprobs")
        order = {"order": torch.arange(n, device=device)} if beams > 1 else {}
        return context.state(*own) | {
            **order,
            "phase": self._phase(size, zeros),
            "ids": ids.to(device),
            "size": size,
            "seen": zeros,
            "reused": zeros,
            "prompted": size,
            "written": zeros,
            "logprob": logprob,
            "logprobs": torch.zeros(ids.shape, device=device),
            "spoken": torch.tensor([spoken for _, _, spoken in prompts], device=device),
            "forbidden": torch.zeros(n, -(-self.encoder.size // 32) * held, dtype=torch.int32, device=device),
            "top_ids": torch.zeros(likeliest, dtype=torch.int64, device=device),
            "top_values": torch.zeros(likeliest, device=device),
        }

    def _phase(self, size: Tensor, seen: Tensor) -> Tensor:
        """Of a prompt of which so many tokens have been through the trunk: of the last one something is drawn."""
        return torch.where(size - seen > self.block, _BLOCKS, _REST)

    def query(self, state: State) -> Query:
        """Tokens that have not been through the trunk: the prompt's at first, block by block, then one at a time."""
        ids, size, seen = state["ids"], state["size"], state["seen"]
        t = min(int((size - seen).max()), self.block)
        index = seen[:, None] + torch.arange(t, device=ids.device)
        chosen = ids.gather(1, index.clamp(max=ids.shape[1] - 1))
        content = {"id": chosen.flatten()}
        if self.options.bigrams:
            before = torch.where(index > 0, ids.gather(1, (index - 1).clamp(0, ids.shape[1] - 1)), -1)
            rows = bigram_rows(self.encoder.bigrams, bigram_code(before.cpu().numpy(), chosen.cpu().numpy()))
            content["bigram"] = torch.from_numpy(rows).to(ids.device).flatten()
        return Query(content, t=t, causal=True, keep=True, pos=seen, valid=index < size[:, None])

    def step(self, state: State, h: Tensor, unconditional: Tensor | None) -> State:
        if int(state["phase"][0]) == _BLOCKS:
            return self._after_block(state)
        beams, special = int(state["beams"][0]), self.encoder.special
        size, end = state["size"], special.end
        logits = self._logits(h[torch.arange(len(h)), size - state["seen"] - 1])
        logits[:, list(special.never)] = -torch.inf
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
            u = torch.from_numpy(rng.uniform(rng.mix(state_keys(state), size.cpu().numpy()))).to(h.device)
            logits = _allowed(logits, state["forbidden"])
            drawn = choose(logits, u, *(state[name] for name in ("temperature", "top_k", "top_p", "min_p")))
            drawn = torch.where(state["done"], end, drawn)
        own, state = gained.gather(1, drawn[:, None]), self._with_likeliest(state, gained)
        logprob, ids, logprobs = state["logprob"] + own[:, 0], state["ids"], state["logprobs"]
        if int(size.max()) == ids.shape[1]:
            ids = torch.cat([ids, torch.full_like(ids[:, :1], end)], dim=1)
            logprobs = torch.cat([logprobs, torch.zeros_like(logprobs[:, :1])], dim=1)
        ids, logprobs = ids.scatter(1, size[:, None], drawn[:, None]), logprobs.scatter(1, size[:, None], own)
        full = (size + 1 - state["prompted"] >= state["max_length"]) | (size >= self.options.length)
        ended = torch.isin(drawn, torch.tensor([end, *special.stops], device=h.device))
        done = state["done"] | ended | full
        new = {"done": done, "ids": ids, "size": size + 1, "seen": size, "written": written}
        new |= {"logprob": logprob, "logprobs": logprobs}
        return {**state, **new, "phase": torch.full_like(size, _TOKENS)}

    def _after_block(self, state: State) -> State:
        """Nothing is drawn: the prompt goes on."""
        seen = state["seen"] + self.block
        order = {"order": torch.arange(len(seen), device=seen.device)} if int(state["beams"][0]) > 1 else {}
        return {**state, **order, "seen": seen, "phase": self._phase(state["size"], seen)}

    def _with_likeliest(self, state: State, gained: Tensor) -> State:
        """Keeps the likeliest tokens of what is drawn now, with their log-probabilities `gained` [n, V], of those
        answers that want them."""
        wanted = (state["top_logprobs"] > 0).nonzero()[:, 0]
        if not len(wanted):
            return state
        ids, values, at = state["top_ids"], state["top_values"], (state["size"] - state["prompted"])[wanted]
        if (missing := int(at.max()) + 1 - ids.shape[1]) > 0:
            more = (0, 0, 0, max(missing, ids.shape[1]))  # as many again: so a long text is not copied at every token
            ids, values = F.pad(ids, more), F.pad(values, more)
        top = gained[wanted].topk(ids.shape[2], dim=1)
        new = {
            "top_ids": ids.index_put((wanted, at), top.indices),
            "top_values": values.index_put((wanted, at), top.values),
        }
        return {**state, **new}

    def drawn(self, state: State) -> Tensor:
        last = state["ids"].gather(1, (state["size"] - 1)[:, None])[:, 0]
        return torch.where(state["size"] > state["prompted"], last, -1)

    # -- prompts that begin alike --------------------------------------------------------------------------------------
    def prompt_blocks(self, state: State) -> list[list[bytes]]:
        out = []
        for ids, size in zip(state["ids"].cpu().numpy(), state["size"].tolist(), strict=True):
            names, before = [], b""
            for first in range(0, size - self.block, self.block):
                tokens = ids[first : first + self.block].astype("<i8").tobytes()
                names.append(before := hashlib.blake2b(before + tokens, digest_size=32).digest())
            out.append(names)
        return out

    def blocks_read(self, state: State) -> Tensor:
        return torch.minimum(state["seen"], state["prompted"] - 1) // self.block

    def skip_blocks(self, state: State, blocks: Tensor) -> State:
        seen = state["seen"] + blocks * self.block
        return {**state, "seen": seen, "reused": seen, "phase": self._phase(state["size"], seen)}

    def answer_positions(self, prompt: np.ndarray, sampling: Sampling) -> np.ndarray:
        return np.minimum(1 + prompt + sampling.max_length, self.options.length)

    def finish(self, state: State) -> list[Answer]:
        """Each whole text, its prompt included; the probability is of what was written after that."""
        encoder = self.encoder
        answers, ends = [], {encoder.special.end, *encoder.special.stops}
        rows = (state[name].tolist() for name in ("ids", "size", "prompted", "logprob", "logprobs", "spoken", "reused"))
        for row, (ids, size, prompted, logprob, logprobs, spoken, reused) in enumerate(zip(*rows, strict=True)):
            ids, first = ids[1:size], prompted - 1
            end = next((i for i in range(first, len(ids)) if ids[i] in ends), None)
            ids = ids[:end]
            text = encoder.decode(encoder.reply(ids, first, spoken))
            written = self._written(text, ids, first, logprobs[prompted:size], end is None)
            written = replace(written, top=_likeliest(state, row, len(written.tokens)), reused=reused)
            answers.append(Answer(text, float(np.exp(logprob)), logprob=logprob, written=written))
        return answers

    def _written(self, text: str, ids: list[int], first: int, logprobs: list[float], cut: bool) -> Written:
        """Of a text that begins with `first` tokens of a prompt; a reply to a conversation is written as a whole."""
        decode = self.encoder.decode
        before = decode(ids[:first]) if first else ""
        whole = decode(ids) if first else text
        own = whole[len(before) :] if whole.startswith(before) else decode(ids[first:])
        return Written(own, tuple(ids[first:]), tuple(logprobs[: len(ids) - first]), cut)


def _allowed(logits: Tensor, forbidden: Tensor) -> Tensor:
    """Logits [n, V] of which those are left out whose bits stand in `forbidden` int32 [n, W]."""
    if not forbidden.shape[1]:
        return logits
    held = forbidden.any(1).nonzero()[:, 0]
    bits = torch.arange(32, dtype=torch.int32, device=forbidden.device)
    left_out = ((forbidden[held][:, :, None] >> bits) & 1).flatten(1)[:, : logits.shape[1]].bool()
    return logits.index_copy(0, held, logits[held].masked_fill(left_out, -torch.inf))


def _likeliest(state: State, row: int, count: int) -> tuple[tuple[tuple[int, float], ...], ...]:
    """Of the first `count` tokens that one answer has written, the likeliest at each place."""
    wanted = int(state["top_logprobs"][row])
    if not wanted:
        return ()
    pairs = zip(*(state[name][row, :count, :wanted].tolist() for name in ("top_ids", "top_values")), strict=True)
    return tuple(tuple((i, x) for i, x in zip(*pair, strict=True) if x > -np.inf) for pair in pairs)


def _best(logprob: Tensor, written: Tensor, beams: int) -> tuple[Tensor, Tensor]:
    """Of `beams` neighbouring documents together, the best ways to go on by log-probability a token (Wu et al. 2016,
    arXiv 1609.08144, with alpha = 1): which document each goes on from, and with what token, int64 [n] each.

    `logprob` [n, V] is of a document with each token; `written` [n] how many tokens that makes.
    """
    n, size = logprob.shape
    best = (logprob / written[:, None]).view(-1, beams * size).topk(beams, dim=-1).indices
    first = torch.arange(0, n, beams, device=logprob.device)[:, None]
    return (first + best // size).flatten(), (best % size).flatten()


def _prompts(content: Content, start: int) -> list[tuple[list[int], int, bool]]:
    """The tokens of every text, the one that stands before them, and whether there are any that nobody learns."""
    out = []
    for a, n in zip(content.starts.tolist(), content.lens.tolist(), strict=True):
        begins = int(content.data["start"][a]) if n else start
        spoken = bool(n) and not content.data["learnt"][a : a + n].all()
        out.append((content.data["id"][a : a + n].tolist(), begins if begins >= 0 else start, spoken))
    return out
