"""Methods of explanation against closed forms and games whose values are known, on every column type."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import worlds
from captum.attr import IntegratedGradients, ShapleyValues
from torch import nn
from worlds import CASES, Case

from onetrunk.core.batch import Layout
from onetrunk.core.errors import UsageError
from onetrunk.core.registry import explanations
from onetrunk.data.table import Table
from onetrunk.explanation.attribution import Attribution, Finding
from onetrunk.explanation.game import Game
from onetrunk.explanation.method import Settings, explain, method_named
from onetrunk.explanation.methods.attention_rollout import rolled_out
from onetrunk.explanation.methods.attn_lrp import relevance_rules
from onetrunk.explanation.methods.integrated_gradients import LOOKS, points_of_change
from onetrunk.explanation.methods.kernel_shap import coalitions, solved
from onetrunk.explanation.methods.lime import local_weights
from onetrunk.explanation.methods.marginals import first_and_last
from onetrunk.explanation.methods.shapley import every_coalition, shapley_values
from onetrunk.explanation.question import Question, ask_about
from onetrunk.explanation.way import EMBEDDING
from onetrunk.inference.model_folder import Model
from onetrunk.nn.block import GatedMLP
from onetrunk.nn.norm import RMSNorm
from onetrunk.nn.transformer import Transformer, TransformerConfig
from onetrunk.training.wide import fit_wide, wide_rows


def world(case: Case, asked: bool, **more: Any) -> tuple[Model, Table, str]:
    """A model with a column of the case, given or asked, beside another one; a row; and which column is asked."""
    table: dict[str, list[Any]] = {"x": case.values}
    types, options = {"x": case.type}, {"x": dict(case.options)}
    if case.type in ("text", "molecule"):
        options["x"]["length"] = 24
    if case.on:
        table[case.on[0]], types[case.on[0]] = case.on[1], case.on[0]
    other, kind = ("n", "number") if asked else ("y", "category")
    table[other] = [float(i % 5) for i in range(12)] if asked else list("abcabcabcabc")
    types[other] = kind
    torch.manual_seed(0)
    made = worlds.model(table, types, options=options, **more)
    return made, Table({name: [values[3]] for name, values in table.items()}), "x" if asked else "y"


def question_of(case: Case, asked: bool, **more: Any) -> tuple[Question, Model, Table]:
    made, row, ask = world(case, asked, **more)
    return ask_about(made, row, ask, [name for name in row.names if name != ask])[0], made, row


# -- games that have values ------------------------------------------------------------------------------------------
def random_game(n: int) -> np.ndarray:
    return np.random.default_rng(n).normal(size=(1 << n, 2))


def test_shapley_values_are_captums_means_over_all_orders() -> None:
    n = 4
    scores = torch.from_numpy(random_game(n))
    for outcome, values in enumerate(shapley_values(scores.numpy())):
        game = ShapleyValues(lambda players, k=outcome: scores[players.long() @ (1 << torch.arange(n)), k])
        expected = game.attribute(torch.ones(1, n), baselines=0.0)
        np.testing.assert_allclose(values, expected[0].numpy(), rtol=1e-5)


def test_shapley_values_of_the_glove_game() -> None:
    """Two left gloves and a right one: a pair is worth 1. The right one is worth 2/3 (Shapley 1953)."""
    kept = every_coalition(3)
    worth = (kept[:, 2] & (kept[:, 0] | kept[:, 1])).astype(float)[:, None]
    np.testing.assert_allclose(shapley_values(worth), [[1 / 6, 1 / 6, 2 / 3]])


@pytest.mark.parametrize("n", [1, 2, 5])
def test_kernel_shap_with_all_coalitions_is_exact(n: int) -> None:
    scores = random_game(n)
    kept, weight = coalitions(n, 1 << n, 0)
    values = solved(kept, weight, scores[1:-1] - scores[0], scores[-1] - scores[0])
    np.testing.assert_allclose(values, shapley_values(scores), atol=1e-10)


def test_kernel_shap_from_a_sample_finds_an_additive_game() -> None:
    worth = np.random.default_rng(0).normal(size=16)
    kept, weight = coalitions(16, 256, 1)
    assert len(kept) == 256 and kept.any(1).all() and not kept.all(1).any()
    np.testing.assert_array_equal(kept[128:], ~kept[:128])
    np.testing.assert_allclose(solved(kept, weight, kept @ worth[:, None], worth.sum(keepdims=True)), worth[None])


def test_marginals_are_shapley_values_where_parts_act_alone_and_in_pairs() -> None:
    rng = np.random.default_rng(0)
    alone, pairs, n = rng.normal(size=4), np.triu(rng.normal(size=(4, 4)), 1), 4
    kept = every_coalition(n).astype(float)
    scores = (3 + kept @ alone + np.einsum("ki,ij,kj->k", kept, pairs, kept))[:, None]
    index = 1 << np.arange(n)
    values = first_and_last(scores[-1], scores[0], scores[index], scores[(1 << n) - 1 - index])
    np.testing.assert_allclose(values.T, shapley_values(scores))


def test_lime_finds_a_linear_outcome() -> None:
    rng = np.random.default_rng(0)
    kept, worth = rng.random((300, 6)) < 0.8, rng.normal(size=(6, 2))
    np.testing.assert_allclose(local_weights(kept, 3 + kept @ worth), worth.T, atol=0.02)


def test_attention_is_rolled_out_from_the_first_block_to_the_last() -> None:
    first, second = torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    expected = (second + torch.eye(2)) / 2 @ (first + torch.eye(2)) / 2
    torch.testing.assert_close(rolled_out([first, second]), expected)
    assert torch.allclose(rolled_out([first, second]).sum(1), torch.ones(2))


# -- closed forms ----------------------------------------------------------------------------------------------------
class Linear(nn.Module):
    """A trunk that mixes nothing: what is read is the sum of what is given. `norm` is nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Identity()])
        self.norm = nn.Identity()
        self.weight = nn.Parameter(torch.randn(width, width, generator=torch.Generator().manual_seed(2)) / width**0.5)

    def forward(self, x_BTD: torch.Tensor, layout: Any, watch: Any = None) -> torch.Tensor:
        seen = layout.mask()[:, 0].to(x_BTD.dtype)
        return seen @ (x_BTD @ self.weight)


class Last(nn.Module):
    """A read-out without a bend, instead of a number's."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, width))

    def forward(self, h: torch.Tensor, targets: Any) -> torch.Tensor:
        return h[:, : len(self.weight)] @ self.weight


@pytest.fixture
def linear() -> Question:
    """Text and a category decide over a number, linearly in their embeddings."""
    torch.manual_seed(0)
    made = worlds.model(
        {"t": CASES["text"].values, "c": list("abcabcabcabc"), "n": [float(i) for i in range(12)]},
        {"t": "text", "c": "category", "n": "number"},
    )
    (question,) = ask_about(made, Table({"t": ["two blue birds"], "c": ["b"]}), "n", ["t", "c"])
    made.network.trunk = Linear(made.network.width)  # type: ignore[assignment]
    module = made.module("n")
    object.__setattr__(module, "expected", Last(made.network.width))
    module.pooled = False
    return question


@pytest.mark.parametrize("method", ["integrated_gradients", "gradient_input"])
def test_of_a_linear_model_gradients_are_the_weights_times_the_change(linear: Question, method: str) -> None:
    found = explain(linear, method)
    assert isinstance(found, Attribution)
    game = Game(linear)
    network, scale = linear.network, network_units(linear)
    for way in game.ways():
        each, (ends,) = way.parts, way.moving.values()
        change = ((ends.whole - ends.nothing[0]) @ network.trunk.weight @ network.module("n").expected.weight) * scale
        values = next(c for c in found.columns if c.column == each.column)
        np.testing.assert_allclose(
            values.by_part[0], change.detach().numpy()[each.parts.position], rtol=1e-4, atol=1e-5
        )
    assert found.completeness_error < 1e-4


def test_integrated_gradients_are_captums() -> None:
    """Captum sees the network by `encode` and `read` alone, and embeddings of one document as its inputs."""
    torch.manual_seed(0)
    columns = {"t": CASES["text"].values, "c": list("abcabcabcabc"), "y": list("xyxyxyxyxyxy")}
    made = worlds.model(columns, {"t": "text", "c": "category", "y": "category"})
    network, row = made.network, {"t": ["two blue birds"], "c": ["b"]}
    (question,) = ask_about(made, Table(row), "y", ["t", "c"])
    store = worlds.store_of(made, {**row, "y": [question.answer.value]})
    batch = worlds.batch(store, [0], ["t", "c"], ["y"])
    mask = {"t": {"id": torch.full_like(batch.embeds["t"].content["id"], made.encoder("t").special.mask)},
            "c": {**batch.embeds["c"].content, "id": torch.tensor([-1])}}  # fmt: skip
    nothing, whole = (
        {name: network.embed(name, side[name], batch.embeds[name].role_n).detach()[None] for name in mask}
        for side in (mask, {name: batch.embeds[name].content for name in mask})
    )

    def outcomes(*embeddings: torch.Tensor) -> torch.Tensor:
        """[k, positions, D] of each column to the answer's log-probability [k]."""
        found = []
        for document in zip(*embeddings, strict=True):
            h = network.read(network.encode(batch, embeddings=dict(zip(mask, document, strict=True))), "y")
            found.append(-made.module("y").loss(h, batch.reads["predict"]["y"].targets).sum)
        return torch.stack(found)

    expected = IntegratedGradients(outcomes).attribute(
        tuple(whole.values()), baselines=tuple(nothing.values()), n_steps=64
    )
    found = explain(question, "integrated_gradients", Settings(steps=64))
    assert isinstance(found, Attribution)
    theirs = dict(zip(mask, expected, strict=True))
    for each in found.columns:
        assert each.by_part is not None
        np.testing.assert_allclose(each.by_part[0], theirs[each.column][0].sum(-1).numpy(), rtol=1e-3, atol=1e-5)
    assert found.completeness_error < 1e-3


def test_points_stand_where_the_outcome_changes() -> None:
    """A sure model: all happens at the beginning of the way, where points at equal distances miss it."""
    middle, width = 5e-4, 5e-5

    def outcome(share: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-np.clip((share - middle) / width, -500, 500)))

    points, weights = points_of_change(outcome(LOOKS)[:, None], 32)
    slope = outcome(points) * (1 - outcome(points)) / width
    assert weights.sum() == pytest.approx(1) and (points > 0).all() and (points < 1).all()
    assert weights @ slope == pytest.approx(1, abs=0.1)
    even, lengths = np.polynomial.legendre.leggauss(32)
    missed = outcome((even + 1) / 2)
    assert lengths / 2 @ (missed * (1 - missed) / width) < 0.5
    nothing_happens, _ = points_of_change(np.zeros((len(LOOKS), 2)), 8)
    np.testing.assert_allclose(nothing_happens, (np.polynomial.legendre.leggauss(8)[0] + 1) / 2, atol=1e-3)


VALUES_MOVE = {"image", "audio", "video", "series", "number", "date"}


@pytest.mark.parametrize("name", CASES)
def test_what_moves_is_of_the_part_that_hides_it(name: str) -> None:
    """Numbers move where a stem could mix parts. Of each part those that hiding it alone changes."""
    question, _, _ = question_of(CASES[name], asked=False)
    game = Game(question)
    way = game.ways()[0]
    encoder, column = question.store.encoders[0], way.parts.column
    batch = game.batch(np.ones((1, game.parts), dtype=bool))
    whole = {name: tensor.numpy() for name, tensor in batch.embeds[column].content.items()}
    assert (EMBEDDING not in way.moving) == (CASES[name].type in VALUES_MOVE or "p" in way.moving)
    for moved, each in way.moving.items():
        for k, position in enumerate(way.parts.parts.position.tolist()):
            if moved == EMBEDDING:
                owned = np.zeros(each.owner.shape, dtype=bool)
                owned[position] = True
            elif len(each.nothing) > 1:  # one part: all of it
                owned = np.ones(each.owner.shape, dtype=bool)
            else:
                hidden = np.arange(len(batch.embeds[column].flat_n)) == position
                owned = encoder.hide(whole, hidden)[moved] != whole[moved]  # type: ignore[attr-defined]
            np.testing.assert_array_equal(each.owner.numpy() == k, owned)


def test_a_value_on_a_line_is_compared_with_those_that_training_had() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=400)
    made = worlds.model({"n": values.tolist(), "y": list("ab") * 200}, {"n": "number", "y": "category"})
    (question,) = ask_about(made, Table({"n": [1.0]}), "y", ["n"])
    (way,) = Game(question).ways()
    encoder = made.encoder("n")
    begins = [encoder.value(z) for z in way.moving["value"].nothing.flatten().tolist()]
    np.testing.assert_allclose(begins, np.quantile(values, (np.arange(8) + 0.5) / 8), rtol=0.05)


def network_units(question: Question) -> float:
    return float(question.network.module(question.ask).units[1])


def test_relevance_is_kept_by_norm_and_gate() -> None:
    """AttnLRP: what enters a norm and a gated MLP without biases has the relevance of what leaves (arXiv 2402.05602,
    equations 7 to 9)."""
    torch.manual_seed(0)
    layers = nn.Sequential(RMSNorm(8, eps=1e-6), GatedMLP(8, 24, bias=False, activation="swiglu"))
    x = torch.randn(3, 8, requires_grad=True)
    plain = layers(x)
    with relevance_rules(layers):
        y = layers(x)
    torch.testing.assert_close(y, plain)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close((gradient * x).sum(), y.sum(), rtol=1e-4, atol=1e-5)
    (ordinary,) = torch.autograd.grad(plain.sum(), x)
    assert abs(((ordinary * x).sum() - plain.sum()).item()) > 0.05  # which is why rules are needed


def test_relevance_rules_leave_when_they_are_done_and_answer_alike() -> None:
    torch.manual_seed(0)
    trunk = Transformer(TransformerConfig(width=16, layers=2, heads=2))
    worlds.wake(trunk)
    x, stream = torch.randn(2, 5, 16, requires_grad=True), Layout.stream(2, 5)
    before = trunk(x, stream)
    with relevance_rules(trunk):
        torch.testing.assert_close(trunk(x, stream), before, rtol=1e-4, atol=1e-5)
        (changed,) = torch.autograd.grad(trunk(x, stream).sum(), x)
    (after,) = torch.autograd.grad(trunk(x, stream).sum(), x)
    (ordinary,) = torch.autograd.grad(before.sum(), x)
    torch.testing.assert_close(after, ordinary)
    assert not torch.allclose(changed, ordinary)


def test_attention_weights_are_those_that_the_kernel_uses() -> None:
    torch.manual_seed(0)
    trunk = Transformer(TransformerConfig(width=16, layers=1, heads=4, kv_heads=2))
    attention = trunk.blocks[0].self_attn
    worlds.wake(attention)
    x, layout = torch.randn(2, 6, 16), Layout.stream(2, 6)
    rotation = trunk.rotary(layout.pos_BT[0])
    weights = attention.weights(x, layout, rotation)
    values = attention.v_proj(x).view(2, 6, 2, 4).transpose(1, 2).repeat_interleave(2, dim=1)
    mixed = attention.o_proj((weights @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(mixed, attention(x, layout, rotation), rtol=1e-4, atol=1e-5)


# -- every column type, every method ---------------------------------------------------------------------------------
ATTRIBUTING = [name for name in explanations.names() if explanations.get(name).attributes]
FEW = Settings(samples=24, steps=4)


@pytest.mark.parametrize("asked", [False, True], ids=["given", "asked"])
@pytest.mark.parametrize("name", CASES)
def test_contract(name: str, asked: bool) -> None:
    question, _, _ = question_of(CASES[name], asked)
    for method in ATTRIBUTING:
        try:
            found = explain(question, method, FEW)
        except UsageError as error:
            assert method == "shapley" and "kernel_shap" in str(error)
            continue
        assert isinstance(found, Attribution)
        K = len(question.outcomes)
        assert found.score.shape == found.nothing.shape == (K,) and np.isfinite(found.score).all()
        assert found.total().shape == (question.part_count,)
        for each in found.columns:
            assert each.values.shape == (K,) and np.isfinite(each.values).all()
            assert each.by_part is None or each.by_part.shape == (K, len(each.parts))
            assert each.by_part is None or np.isfinite(each.by_part).all()
        if method in ("shapley", "kernel_shap"):
            assert found.completeness_error < 1e-6, method
        found.as_json()
    for method in ("activations", "decision_path"):
        found = explain(question, method)
        assert isinstance(found, Finding) and found.rows and {len(row) for row in found.rows} == {len(found.header)}


@pytest.mark.parametrize("name", ["text", "image", "items", "series", "audio", "video", "molecule", "boxes", "number"])
def test_the_whole_row_is_answered_as_ever(name: str) -> None:
    """What is explained is what `answer` says: no part left out, and what a missing column means."""
    made, row, ask = world(CASES[name], asked=False)
    question = ask_about(made, row, ask, [n for n in row.names if n != ask])[0]
    game = Game(question)
    whole, nothing = game.scores(np.array([[True], [False]]).repeat(question.part_count, 1))
    kept = [each.column for each in question.columns if each.stays]
    for given, score in ((None, whole), (kept, nothing)):
        (answer,) = made.answer(row, ask, [n for n in row.names if n != ask] if given is None else given)
        probability = answer.of_classes[str(question.answer.value)]
        assert np.exp(score[0]) == pytest.approx(probability, rel=1e-4)


@pytest.mark.parametrize("trunk", [{"kind": "lstm", "width": 32, "layers": 1}], ids=["lstm"])
def test_other_trunks_are_explained_as_far_as_methods_go(trunk: dict[str, Any]) -> None:
    question, _, _ = question_of(CASES["text"], asked=False, trunk=trunk, given="causal")
    for method in ATTRIBUTING:
        if method in ("attn_lrp", "attention_rollout", "shapley"):
            with pytest.raises(UsageError, match=r"attention|kernel_shap"):
                explain(question, method, Settings(samples=16))
                raise UsageError("kernel_shap")  # of few tokens shapley is exact
        else:
            assert explain(question, method, Settings(samples=16, steps=2)).total().shape == (question.part_count,)


def test_a_written_answer_is_explained_token_by_token() -> None:
    made = worlds.text_writer(["ab ab ab ab"] * 4 + ["ba ba ba"] * 4, length=12)
    question = ask_about(made, Table({"note": ["ab"]}), "note", [], prompted=True)[0]
    assert len(question.outcomes) > 1 and question.columns[0].asked
    for method in ("occlusion", "integrated_gradients"):
        found = explain(question, method)
        assert isinstance(found, Attribution)
        (column,) = found.columns
        assert column.by_part is not None and column.by_part.shape[0] == len(question.outcomes)
        # No token is told of the ones that come after it.
        later = column.parts.position[None] > np.arange(len(question.outcomes))[:, None] + question.reads.start
        assert np.abs(column.by_part[later]).max(initial=0) < 1e-6
        assert found.total().any()


def test_a_target_is_explained_instead_of_the_answer() -> None:
    made, row, ask = world(CASES["text"], asked=False)
    of_each = [ask_about(made, row, ask, ["x"], target=name)[0] for name in "abc"]
    scores = [explain(question).score[0] for question in of_each]
    assert np.exp(scores).sum() == pytest.approx(1, abs=1e-5)
    with pytest.raises(UsageError, match="no class of 'y'; expected one of a, b, c"):
        ask_about(made, row, ask, ["x"], target="d")


def test_an_empty_text_is_a_part_by_itself() -> None:
    made = worlds.model({"t": CASES["text"].values, "n": CASES["number"].values, "y": list("abcabcabcabc")},
                        {"t": "text", "n": "number", "y": "category"})  # fmt: skip
    for row in ({"t": [""], "n": [4.0]}, {"t": [""], "n": [None]}):
        (question,) = ask_about(made, Table(row), "y", ["t", "n"])
        assert question.columns[0].parts.labels == ["(empty)"]
        for method in (*ATTRIBUTING, "activations", "decision_path"):
            found = explain(question, method, FEW)
            assert isinstance(found, Finding) or np.isfinite(found.total()).all(), method


# -- speed: passes are counted, seconds are not ----------------------------------------------------------------------
@pytest.mark.parametrize("name", ["image", "number"])
@pytest.mark.parametrize(
    ("method", "forward", "backward"),
    [("marginals", 1, 0), ("occlusion", 1, 0), ("integrated_gradients", 2, 1), ("gradient_input", 1, 1),
     ("attn_lrp", 1, 1), ("lime", 1, 0), ("kernel_shap", 1, 0), ("attention_rollout", 2, 0), ("decision_path", 1, 0)],
)  # fmt: skip
def test_one_explanation_takes_few_passes(name: str, method: str, forward: int, backward: int) -> None:
    """Three at most, as the trunk itself counts them."""
    question, _, _ = question_of(CASES[name], asked=False)
    game, passes = Game(question), {"forward": 0, "backward": 0}
    trunk = question.network.trunk

    def count(module: nn.Module, args: Any, output: torch.Tensor) -> None:
        passes["forward"] += 1
        if output.requires_grad:
            output.register_hook(lambda gradient: passes.update(backward=passes["backward"] + 1))

    handle = trunk.register_forward_hook(count)
    method_named(method, Settings(samples=64)).explain(game)
    handle.remove()
    assert passes == {"forward": forward, "backward": backward} and forward + backward <= 3
    assert (game.forward_passes, game.backward_passes) == (forward, backward)


# -- tables of findings ----------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def fitted() -> tuple[Model, dict[str, list[Any]]]:
    """A small model that learnt that a number above 0 is "high", whatever the other column says."""
    rng = np.random.default_rng(0)
    table: dict[str, list[Any]] = {"n": rng.normal(size=64).round(2).tolist(), "c": rng.choice(list("ab"), 64).tolist()}
    table["y"] = ["high" if n > 0 else "low" for n in table["n"]]
    torch.manual_seed(0)
    made = worlds.model(table, {"n": "number", "c": "category", "y": "category"}, awake=False)
    store = worlds.store_of(made, table)
    learnt = made.network.train()
    optimizer = torch.optim.AdamW(learnt.parameters(), lr=5e-3)
    # With missing columns, as pretraining has them: so that what is left out is known.
    batches = [worlds.batch(store, range(64), given, ["y"]) for given in (["n", "c"], ["n"], ["c"], [])]
    for step in range(120):
        batch = batches[step % 4]
        loss = learnt.module("y").loss(learnt.read(learnt.encode(batch), "y"), batch.reads["predict"]["y"].targets)
        optimizer.zero_grad()
        (loss.sum / loss.count).backward()
        optimizer.step()
    learnt.eval()
    return made, table


def test_a_planted_cause_comes_first(fitted: tuple[Model, dict[str, list[Any]]]) -> None:
    made, _ = fitted
    for question in ask_about(made, Table({"n": [1.5, -1.5], "c": ["a", "b"]}), "y", ["n", "c"]):
        for method in ("marginals", "occlusion", "shapley", "kernel_shap", "lime", "integrated_gradients"):
            # Not the gradient at the row alone: where the model is sure there is none left.
            found = explain(question, method)
            assert isinstance(found, Attribution)
            first, second = (abs(each.values[0]) for each in found.columns)
            assert first > 3 * second, method


def test_a_counterfactual_changes_what_decides(fitted: tuple[Model, dict[str, list[Any]]]) -> None:
    made, table = fitted
    (question,) = ask_about(made, Table({"n": [1.5], "c": ["a"]}), "y", ["n", "c"])
    found = explain(question, "counterfactual", Settings(model=made, train=Table(table)))
    assert isinstance(found, Finding) and "n: 1.5 →" in found.rows[0][0] and found.rows[0][1] == "low"
    sizes = [row[2] for row in found.rows]
    assert sizes == sorted(sizes)
    with pytest.raises(UsageError, match="--train"):
        explain(question, "counterfactual", Settings(model=made))


def test_the_nearest_training_rows_are_the_row_itself_first(fitted: tuple[Model, dict[str, list[Any]]]) -> None:
    made, table = fitted
    row = {name: [values[7]] for name, values in table.items() if name != "y"}
    (question,) = ask_about(made, Table(row), "y", ["n", "c"])
    found = explain(question, "nearest_rows", Settings(train=Table(table), rows=3))
    assert isinstance(found, Finding) and len(found.rows) == 3
    assert found.rows[0][1] == pytest.approx(1, abs=1e-3) and found.rows[0][3:] == [table["n"][7], table["c"][7]]


def test_a_row_of_which_nothing_is_given_is_an_error(fitted: tuple[Model, dict[str, list[Any]]]) -> None:
    (question,) = ask_about(fitted[0], Table({"n": [None], "c": [None]}), "y", ["n", "c"])
    with pytest.raises(UsageError, match="Nothing is given in row 0"):
        explain(question)
    with pytest.raises(UsageError, match=r"Unknown method of explanation 'occlusoin'\. Did you mean 'occlusion'"):
        method_named("occlusoin", Settings())


# -- wide read-outs --------------------------------------------------------------------------------------------------
def test_a_wide_read_out_is_left_out_with_its_parts_and_gradients_say_that_they_do_not_see_it() -> None:
    texts = ["the red boat", "the old boat", "a red tree", "an old tree"] * 12
    table = {"note": texts, "label": ["warm" if "red" in t else "cold" for t in texts]}
    made = worlds.model(table, {"note": "text", "label": "category"}, awake=False)
    store = worlds.store_of(made, table)
    made.network.add_wide("label", fit_wide(wide_rows(store, ["note"], "label", np.arange(48))).readout)
    (question,) = ask_about(made, Table({"note": ["the red boat"]}), "label", ["note"])
    found = explain(question)
    assert isinstance(found, Attribution)
    (column,) = found.columns
    assert column.by_part is not None
    red = next(k for k, label in enumerate(column.parts.labels) if "red" in label)
    assert column.by_part[0].argmax() == red
    kept = np.arange(question.part_count) != red
    (answer,) = made.answer({"note": ["the boat"]}, "label", ["note"])
    assert np.exp(Game(question).scores(kept[None])[0, 0]) == pytest.approx(answer.of_classes["warm"], rel=0.05)
    by_gradient = explain(question, "integrated_gradients")
    assert isinstance(by_gradient, Attribution)
    assert np.abs(by_gradient.total()).max() < 1e-6  # the trunk says nothing yet
    assert "wide read-out" in by_gradient.notes[0]
    assert explain(question, "shapley").completeness_error < 1e-6
