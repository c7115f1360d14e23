"""Answers that are read in one step, as labels, numbers and dates are: what is given in a row and what is asked of it
go through the trunk together, packed as in training, and nothing of them is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from onetrunk.core.answer import Answer, Sampling
from onetrunk.core.content import Content, Role
from onetrunk.core.decoding import AnswerContext
from onetrunk.core.encoder import reads_on
from onetrunk.core.module import OneStep
from onetrunk.core.objective import RoleAssignment
from onetrunk.data.pack import assemble
from onetrunk.data.store import RowOutputs, Store
from onetrunk.inference.given import GivenRows, join_rows
from onetrunk.model import FoundationModel

_TAG = "answers"
_WIDTH = 64  # of sequences, unless a row is longer: attention is over all of a sequence, and the less the better


@dataclass(frozen=True)
class Question:
    """One asked column of some rows."""

    rows: GivenRows
    ask: str
    keys: np.ndarray  # uint64 [rows]
    sampling: Sampling


def is_at_once(model: FoundationModel, ask: str) -> bool:
    """Is this column's answer read in one step, on a position of its own?"""
    return isinstance(model.module(ask), OneStep) and reads_on(model.encoder(ask)) is None


def answer_at_once(model: FoundationModel, questions: Sequence[Question]) -> list[list[Answer]]:
    """The answers to each question, in the order of its rows. Different columns that are asked of the same rows are
    asked in one document, each in a branch of its own. Where answers do not depend on the trunk it is not asked."""
    through = [i for i, question in enumerate(questions) if model.module(question.ask).reads_trunk]
    out: list[list[Answer]] = [[] for _ in questions]
    for i, answers in zip(through, _through_the_trunk(model, [questions[i] for i in through]), strict=True):
        out[i] = answers
    for i in set(range(len(questions))) - set(through):
        out[i] = _from_wide_alone(model, questions[i])
    return out


def _from_wide_alone(model: FoundationModel, question: Question) -> list[Answer]:
    """Of a column whose read-out weighs nothing but what its wide read-out says."""
    rows, module = question.rows, model.module(question.ask)
    said = rows.store.wide[question.ask][rows.rows]
    h = np.zeros((len(said), module.read_width), dtype=np.float32)
    h[:, h.shape[1] - said.shape[1] :] = said
    weight = next(model.parameters())
    read = torch.from_numpy(h).to(weight.device, weight.dtype)
    return _answered(model, question.ask, read, question.keys, [question.sampling] * len(said))


def _answered(model: FoundationModel, ask: str, h: Tensor, keys: np.ndarray, sampling: list[Sampling]) -> list[Answer]:
    """Of reads [r, read width], in the weights' own precision, whatever the trunk's."""
    weight, module = next(model.parameters()), model.module(ask)
    with torch.autocast(weight.device.type, enabled=False):
        state = module.start(AnswerContext(keys, sampling, weight.device))
        answers: list[Answer] = module.finish(module.step(state, h[:, None].to(weight.dtype), None))
    return answers


def _through_the_trunk(model: FoundationModel, questions: Sequence[Question]) -> list[list[Answer]]:
    if not questions:
        return []
    rows, documents = _documents(model, questions)
    store, roles = _with_asked(model, rows, questions, documents)
    group = RoleAssignment(np.arange(len(roles)), roles, np.zeros(len(roles), dtype=np.uint64))
    batch = assemble({_TAG: group}, store, given_causal=model.given_causal, augment=False, short=_WIDTH)
    device = next(model.parameters()).device
    batch = batch.to(device)
    hidden = model.encode(batch)
    out: list[list[Answer]] = [[] for _ in questions]
    for ask in dict.fromkeys(question.ask for question in questions):
        asked = [i for i, question in enumerate(questions) if question.ask == ask]
        read = batch.reads[_TAG][ask].doc_r.cpu().numpy()  # documents, rising
        at = torch.from_numpy(np.searchsorted(read, np.concatenate([documents[i] for i in asked])))
        counts = [len(documents[i]) for i in asked]
        sampling = [questions[i].sampling for i, count in zip(asked, counts, strict=True) for _ in range(count)]
        keys = np.concatenate([questions[i].keys for i in asked])
        answers = iter(_answered(model, ask, model.read(hidden, ask)[at.to(device)], keys, sampling))
        for i, count in zip(asked, counts, strict=True):
            out[i] = [next(answers) for _ in range(count)]
    return out


def _documents(model: FoundationModel, questions: Sequence[Question]) -> tuple[GivenRows, list[np.ndarray]]:
    """All rows that are asked about, and which of them each question is about, int64 [rows]."""
    groups: dict[tuple[int, tuple[str, ...], bytes, int], list[int]] = {}
    asked: dict[tuple[int, tuple[str, ...], bytes, str], int] = {}
    for i, question in enumerate(questions):
        rows = question.rows
        same = (id(rows.store), tuple(name for name in rows.given if name != question.ask), rows.rows.tobytes())
        times = asked[*same, question.ask] = asked.get((*same, question.ask), -1) + 1  # a column is asked once in each
        groups.setdefault((*same, times), []).append(i)
    stores: dict[tuple[int, tuple[str, ...]], list[list[int]]] = {}
    for (store, given, _, _), members in groups.items():
        stores.setdefault((store, given), []).append(members)
    documents: list[np.ndarray] = [np.zeros(0, dtype=np.int64)] * len(questions)
    first, pieces = 0, []
    for several in stores.values():
        rows_of = [questions[members[0]].rows for members in several]
        for members, rows in zip(several, rows_of, strict=True):
            for i in members:
                documents[i] = np.arange(first, first + len(rows.rows))
            first += len(rows.rows)
        pieces.append(GivenRows(rows_of[0].store, np.concatenate([rows.rows for rows in rows_of]), rows_of[0].given))
    return join_rows(model, pieces), documents


def _with_asked(
    model: FoundationModel, rows: GivenRows, questions: Sequence[Question], documents: Sequence[np.ndarray]
) -> tuple[Store, np.ndarray]:
    """The rows as a store of their own, in which what is asked stands too, as nothing in particular; and the columns'
    roles int64 [rows, C]."""
    asked: dict[str, list[int]] = {}
    for i, question in enumerate(questions):
        asked.setdefault(question.ask, []).append(i)
    given = rows.roles()
    names = [name for name in model.columns if name in asked or name in rows.store.names]
    index = np.full((len(given), len(names)), -1, dtype=np.int64)
    roles = np.full(index.shape, Role.ABSENT, dtype=np.int64)
    contents: list[Content] = []
    for c, name in enumerate(names):
        encoder, own = model.encoder(name), []
        if name in rows.store.names:
            there = rows.store.names.index(name)
            own = [rows.store.contents[there]]
            index[:, c], roles[:, c] = rows.store.index[rows.rows, there], given[:, there]
        if name in asked:
            of = np.concatenate([documents[i] for i in asked[name]])
            index[of, c], roles[of, c] = sum(map(len, own)), Role.ASKED
            own.append(encoder.stack([encoder.blank()]))
        contents.append(Content.join(own))
    wide: dict[str, RowOutputs] = {
        ask: each for ask in asked if (each := _wide(model, ask, questions, documents, asked[ask])) is not None
    }
    return Store(names, [model.encoder(name) for name in names], contents, index, wide=wide), roles


def _wide(
    model: FoundationModel,
    ask: str,
    questions: Sequence[Question],
    documents: Sequence[np.ndarray],
    asked: Sequence[int],
) -> np.ndarray | None:
    """What the column's wide read-out says, where it has one, float32 [documents, K]: zeros where it is not asked."""
    if model.wide_of(ask) is None:
        return None
    said = [questions[i].rows.store.wide[ask][questions[i].rows.rows] for i in asked]
    out = np.zeros((1 + max(int(each.max(initial=-1)) for each in documents), said[0].shape[1]), dtype=np.float32)
    for i, each in zip(asked, said, strict=True):
        out[documents[i]] = each
    return out
