"""A student learns from a larger model's distributions: the loss by hand, what it needs, and that it helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import worlds

import onetrunk
from onetrunk.core.errors import UsageError
from onetrunk.inference.model_folder import Model

SETTINGS = ["train.tensorboard=false"]
TYPES = {"x": "number", "kind": "category", "price": "number", "note": "text", "tags": "category"}


def rows() -> dict[str, list[Any]]:
    kinds = [("a", "b", "c")[i % 3] for i in range(24)]
    return {
        "x": [float(i) for i in range(24)],
        "kind": kinds,
        "price": [2.0 * i for i in range(24)],
        "note": [f"{kind} {kind}" for kind in kinds],
        "tags": [[kind, "d"] if i % 2 else [kind] for i, kind in enumerate(kinds)],
    }


def pair() -> tuple[Model, Model]:
    wide = {**worlds.TRUNK, "width": 2 * worlds.TRUNK["width"]}
    student, teacher = (worlds.model(rows(), TYPES, trunk=trunk) for trunk in (worlds.TRUNK, wide))
    return student, teacher


def logits(model: Model, name: str, batch: Any) -> torch.Tensor:
    """What a column's read-out makes of a batch's reads, [r, K]."""
    module = model.module(name)
    own = model.network.read(model.network.encode(batch), name)
    if module.pooled:
        return module.logits(own)
    return torch.nn.functional.linear(*module.readout(own))


@pytest.mark.parametrize("name", ["kind", "price", "note", "tags"])
def test_the_loss_is_the_truths_and_the_teachers(name: str) -> None:
    student, teacher = pair()
    store = worlds.store_of(student, rows())
    batch = worlds.batch(store, range(24), ["x"], [name])
    (truth,) = worlds.learner(student, worlds.objective(store, given=["x"], ask=[name]))(batch).values()
    own, theirs = logits(student, name, batch), logits(teacher, name, batch)
    if name == "tags":  # one softmax a class, of there and not there
        own, theirs = (torch.stack([x, torch.zeros_like(x)], dim=-1) for x in (own, theirs))
    p, q = ((x / 3).softmax(-1) for x in (theirs, own))
    each = (p * (p / q).log()).sum(-1)
    expected = 0.75 * truth.sum + 0.25 * 9 * (each.mean(-1) if name == "tags" else each).sum()
    options = {"given": ["x"], "ask": [name], "options": {"weight": 0.25, "temperature": 3.0}}
    objective = worlds.objective(store, "distil", **options)
    learner = worlds.learner(student, objective).eval()
    batch.reads = {objective.tag: batch.reads["predict"]}
    (plain,) = learner(batch).values()
    assert torch.equal(plain.sum, truth.sum), "judged by the truth alone"
    with pytest.raises(UsageError, match="distil learns from a teacher: name one with --teacher"):
        learner.train()(batch)
    objective.learn_from(teacher.network)
    (loss,) = learner(batch).values()
    torch.testing.assert_close(loss.sum, expected, rtol=1e-4, atol=1e-4)
    assert loss.count == truth.count and torch.isclose(loss.each.sum(), loss.sum, rtol=1e-4)
    loss.sum.backward()
    assert all(p.grad is None for p in teacher.network.parameters())
    assert not any("teacher" in key for key in learner.state_dict())


def test_large_vocabularies_are_taken_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    from onetrunk.nn.heads import categorical

    g = torch.Generator().manual_seed(0)
    h, weight, bias, other, table = (torch.randn(*s, generator=g) for s in ((9, 4), (7, 4), (7,), (9, 6), (7, 6)))
    collected = []
    for most in (1 << 24, 14):
        monkeypatch.setattr(categorical, "_MOST_LOGITS", most)
        leaves = [x.clone().requires_grad_() for x in (h, weight, bias)]
        each = categorical.linear_divergence(*leaves, other, table, None, 2.0)
        each.sum().backward()
        collected.append((each.detach(), *(leaf.grad for leaf in leaves)))
    for whole, chunked in zip(*collected, strict=True):
        torch.testing.assert_close(whole, chunked)


def rings(n: int, seed: int, labelled: int) -> dict[str, list[Any]]:
    """Is a point near the centre, on a ring, or outside? A tenth of the labels are wrong."""
    dice = np.random.default_rng(seed)
    points = dice.uniform(-1, 1, (n, 2)).round(4)
    label = np.array(["in", "ring", "out"])[np.digitize(np.hypot(*points.T), [0.45, 0.8])]
    return {
        "x": points[:, 0].tolist(),
        "y": points[:, 1].tolist(),
        "label": [str(v) if i < labelled else None for i, v in enumerate(label)],
    }


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("teacher") / "large"
    onetrunk.finetune(rings(900, 0, 900), ask=["label"], out=str(out), size="tiny", quiet=True,
                      settings=[*SETTINGS, "finetune.steps=150"])  # fmt: skip
    return out


def test_a_student_with_a_teacher_is_better_than_with_its_labels_alone(teacher: Path, tmp_path: Path) -> None:
    few, test = rings(500, 1, 30), rings(400, 2, 400)
    right = {}
    for name, options in (("alone", {}), ("taught", {"teacher": str(teacher)})):
        model = onetrunk.finetune(few, ask=["label"], out=str(tmp_path / name), size="nano", quiet=True,
                                  settings=[*SETTINGS, "finetune.steps=100"], **options)  # fmt: skip
        answers = onetrunk.load(tmp_path / name).predict(test, "label")["label"]
        right[name] = float((answers == test["label"]).mean())
    assert right["taught"] > right["alone"] + 0.05, right
    assert model.network.width < onetrunk.load(teacher).network.width
    assert model.provenance["teacher"]["name"] == "large" and str(tmp_path) not in str(model.provenance)
    (stage,) = model.provenance["stages"]
    assert any(entry["reason"] == "answered by the teacher" for entry in stage["ledger"])


def test_what_the_teacher_learnt_from_is_not_held_out_from_its_student(teacher: Path, tmp_path: Path) -> None:
    model = onetrunk.finetune(rings(900, 0, 900), ask=["label"], out=str(tmp_path / "s"), size="nano", quiet=True,
                              teacher=str(teacher), seed=5, settings=[*SETTINGS, "finetune.steps=2"])  # fmt: skip
    theirs = onetrunk.load(teacher).provenance["stages"][0]["seen_rows"]
    own = model.provenance["stages"][0]["seen_rows"]
    assert own.digest() == theirs.digest()


def test_what_a_student_needs_is_said(teacher: Path, tmp_path: Path) -> None:
    def refused(message: str, data: dict[str, list[Any]], **result: Any) -> None:
        settings = [*SETTINGS, "finetune.steps=2", *result.pop("settings", [])]
        options = {"ask": ["label"], "size": "nano", "teacher": str(teacher), "quiet": True, **result}
        with pytest.raises(UsageError, match=message):
            onetrunk.finetune(data, out=str(tmp_path / "no"), settings=settings, **options)

    table = rings(200, 3, 200)
    refused("does not know the columns z", {**table, "z": [float(i % 7) for i in range(200)]})
    refused(r"columns.label.smoothing is 0.0 in the teacher", table, settings=["columns.label.smoothing=0.1"])
    other = tmp_path / "other"
    onetrunk.pretrain(table, out=str(other), size="nano", settings=[*SETTINGS, "pretrain.steps=2"], quiet=True)
    refused("'x' has other options, classes or words", table, start=str(other), size=None)
    pictures = {"x": [float(i) for i in range(30)], "picture": [np.full((8, 8), i, np.uint8) for i in range(30)]}
    drawing = tmp_path / "drawing"
    onetrunk.pretrain(pictures, out=str(drawing), size="nano", settings=[*SETTINGS, "pretrain.steps=2"], quiet=True)
    refused("'image' has no distribution", pictures, ask=["picture"], teacher=str(drawing))
