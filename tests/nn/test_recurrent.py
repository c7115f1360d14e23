"""Recurrent trunks against torch's own modules run document by document."""

import pytest
import torch
from torch import Tensor, nn

from onetrunk.core.batch import Layout
from onetrunk.core.errors import UsageError
from onetrunk.nn.recurrent import CELLS, Recurrent, RecurrentConfig

WIDTH = 8
KINDS = sorted(CELLS)
Document = dict[int, Tensor]  # branch to x [t, D]


def trunk(kind: str, dropout: float = 0.0) -> Recurrent:
    torch.manual_seed(0)
    made = Recurrent(RecurrentConfig(kind=kind, width=WIDTH, layers=2, dropout=dropout))
    nn.init.uniform_(made.norm.weight, 0.5, 1.5)
    return made.eval()


def documents() -> list[Document]:
    generator = torch.Generator().manual_seed(3)

    def x(t: int) -> Tensor:
        return torch.randn(t, WIDTH, generator=generator)

    return [{0: x(4), 1: x(2), 2: x(1)}, {0: x(1)}, {1: x(3)}, {0: x(6), 2: x(5)}, {0: x(2), 1: x(1)}]


def pack(rows: list[list[Document]], interleave: bool = False) -> tuple[Tensor, Layout, list[dict[int, Tensor]]]:
    """x_BTD, its layout, and for every document (in order of rows) where its branches lie, flattened."""
    T = max(sum(len(x) for document in row for x in document.values()) for row in rows) + 2
    x_BTD = torch.full((len(rows), T, WIDTH), 7.0)  # padding that would be noticed
    doc, branch = torch.full((len(rows), T), -1), torch.zeros(len(rows), T, dtype=torch.long)
    places: list[dict[int, Tensor]] = []
    for b, row in enumerate(rows):
        at = 0
        for document in row:
            parts = [(k, i) for k, x in document.items() for i in range(len(x))]
            if interleave:  # asked positions between given ones
                parts.sort(key=lambda part: part[1])
            result: dict[int, list[int]] = {k: [] for k in document}
            for k, i in parts:
                x_BTD[b, at], doc[b, at], branch[b, at] = document[k][i], len(places), k
                result[k].append(b * T + at)
                at += 1
            places.append({k: torch.tensor(where) for k, where in result.items()})
    zeros = torch.zeros_like(doc)
    return x_BTD, Layout(doc, branch, zeros, zeros), places


def reference(made: Recurrent, document: Document) -> Document:
    """One torch module of two layers, one document at a time."""
    whole = CELLS[made.config.kind](WIDTH, WIDTH, num_layers=2, batch_first=True)
    for i, layer in enumerate(made.layers):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(whole, f"{name}_l{i}").data.copy_(getattr(layer, f"{name}_l0"))
    out, state = {}, None
    if 0 in document:
        h, state = whole(document[0][None])
        out[0] = made.norm(h[0])
    for k, x in document.items():
        if k:
            out[k] = made.norm(whole(x[None], state)[0][0])
    return out


def assert_close(h_BTD: Tensor, places: list[dict[int, Tensor]], expected: list[Document]) -> None:
    for where, document in zip(places, expected, strict=True):
        for k, h in document.items():
            torch.testing.assert_close(h_BTD.flatten(0, 1)[where[k]], h, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("interleave", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_packed_equals_torch_document_by_document(kind: str, interleave: bool) -> None:
    made, all_documents = trunk(kind), documents()
    expected = [reference(made, document) for document in all_documents]
    for cuts in ([5], [2, 3], [1, 1, 1, 1, 1]):  # however they are packed
        rows, rest = [], list(all_documents)
        for cut in cuts:
            rows.append(rest[:cut])
            rest = rest[cut:]
        x, layout, places = pack(rows, interleave)
        assert_close(made(x, layout), places, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_fast_path_equals_general(kind: str) -> None:
    made = trunk(kind)
    x, layout, places = pack([[{0: torch.randn(5, WIDTH)}], [{0: torch.randn(3, WIDTH)}]])
    general = made(x, layout)
    layout.causal = True
    fast = made(x, layout)
    for where in places:
        torch.testing.assert_close(fast.flatten(0, 1)[where[0]], general.flatten(0, 1)[where[0]])


def test_branches_and_documents_do_not_reach_each_other() -> None:
    made = trunk("lstm")
    x, layout, places = pack([documents()[:2], documents()[2:]])
    x.requires_grad_()
    made(x, layout).flatten(0, 1)[places[0][1][-1]].sum().backward()
    touched = x.grad.flatten(0, 1).abs().sum(1).nonzero()[:, 0].tolist()
    assert touched == sorted([*places[0][0].tolist(), *places[0][1].tolist()])


@pytest.mark.parametrize("kind", KINDS)
def test_step_by_step_equals_whole(kind: str) -> None:
    made = trunk(kind)
    torch.manual_seed(1)
    lens, asked = [4, 0, 2], torch.randn(3, 3, WIDTH)
    given = torch.randn(3, 4, WIDTH)
    valid = torch.arange(4) < torch.tensor(lens)[:, None]
    pos = torch.arange(4).expand(3, 4)
    one = torch.ones(3, 1, dtype=torch.bool)
    expected = [reference(made, {0: given[i, :n], 1: asked[i]} if n else {1: asked[i]}) for i, n in enumerate(lens)]

    cache = made.start_cache(3, torch.device("cpu"))
    h, cache = made.extend(given, pos, valid, cache, causal=False, keep=True)
    for i, n in enumerate(lens):
        if n:
            torch.testing.assert_close(h[i, :n], expected[i][0], atol=1e-6, rtol=1e-5)
    for step in range(3):
        x = asked[:, step : step + 1]
        peek, same = made.extend(x, pos[:, :1], one, cache, causal=True, keep=False)
        assert same is cache
        h, cache = made.extend(x, pos[:, :1], one, cache, causal=True, keep=True)
        assert torch.equal(peek, h)
        torch.testing.assert_close(h[:, 0], torch.stack([e[1][step] for e in expected]), atol=1e-6, rtol=1e-5)


def test_cache_selects_documents() -> None:
    made = trunk("lstm")
    torch.manual_seed(2)
    x, pos, valid = torch.randn(3, 2, WIDTH), torch.zeros(3, 2), torch.ones(3, 2, dtype=torch.bool)
    _, cache = made.extend(x, pos, valid, made.start_cache(3, torch.device("cpu")), causal=True, keep=True)
    index = torch.tensor([2, 0, 0])
    h, _ = made.extend(x, pos, valid, cache, causal=True, keep=False)
    chosen, _ = made.extend(x[index], pos, valid, cache.select(index), causal=True, keep=False)
    torch.testing.assert_close(chosen, h[index])


def test_dropout_keeps_one_mask_a_document() -> None:
    made = trunk("rnn", dropout=0.5).train()
    document = {0: torch.ones(6, WIDTH), 1: torch.ones(2, WIDTH)}
    x, layout, places = pack([[document, document]])
    torch.manual_seed(4)
    h = made(x, layout).flatten(0, 1)
    dropped = [(h[torch.cat([where[0], where[1]])] == 0) for where in places]
    for zero in dropped:
        assert (zero == zero[0]).all() and 0 < zero[0].sum() < WIDTH
    assert not torch.equal(dropped[0][0], dropped[1][0])
    torch.manual_seed(4)
    assert torch.equal(made(x, layout).flatten(0, 1), h)
    made.eval()
    assert_close(made(x, layout), places, [reference(made, document)] * 2)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_learns_and_an_empty_batch_runs(kind: str) -> None:
    made = trunk(kind)
    x, layout, _ = pack([documents()])
    made(x, layout).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in made.parameters())
    empty = torch.full((2, 3), -1)
    assert made(torch.zeros(2, 3, WIDTH), Layout(empty, empty, empty, empty)).shape == (2, 3, WIDTH)


def test_runs_under_bfloat16_autocast() -> None:
    made = trunk("lstm")
    x, layout, places = pack([documents()])
    with torch.autocast("cpu", torch.bfloat16):
        low = made(x, layout)
    for where, expected in zip(places, [reference(made, d) for d in documents()], strict=True):
        for k, h in expected.items():
            torch.testing.assert_close(low.flatten(0, 1)[where[k]].float(), h, atol=0.1, rtol=0.1)


def test_unknown_key_and_kind_are_refused() -> None:
    with pytest.raises(UsageError, match="'hidden'"):
        RecurrentConfig.parse({"kind": "lstm", "hidden": 3})
    with pytest.raises(UsageError, match="kind"):
        RecurrentConfig.parse({"kind": "transformer"})
