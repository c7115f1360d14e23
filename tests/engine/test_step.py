"""Loss groups: each has losses, parameters, an optimizer and updates of its own; losses that take turns."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest
import torch
from tiny import CONFIG, Tiny, TinyBatch, batches, digest, stopping_at, trainer

from onetrunk.core.batch import Loss
from onetrunk.core.errors import DivergedError
from onetrunk.core.objective import LossGroup
from onetrunk.engine.step import Updates

PLAIN = CONFIG.updated(ema=0.0, validate_every=0, loss_weights={})


class Two(Tiny):
    """Tiny, with a head of its own for `predict/sign`; remembers what it was asked for."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__(dropout)
        self.critic = torch.nn.Linear(2, 1)
        self.asked: list[Collection[str] | None] = []

    def forward(self, batch: TinyBatch, wanted: Collection[str] | None = None) -> dict[str, Loss]:
        self.asked.append(None if wanted is None else sorted(wanted))
        losses = super().forward(batch)
        y = self.out(torch.tanh(self.second(torch.relu(self.first(batch.x)))))
        even = torch.from_numpy(batch.row % 2 == 0)
        each = (self.critic(y.detach())[even, 0] - batch.x[even, 0].sign()) ** 2
        losses["predict/sign"] = Loss(each.sum(), even.sum(), each.detach())
        return losses if wanted is None else {name: losses[name] for name in losses if name in wanted}


def with_critic(module: Two, updates: int = 1, **rest: object) -> Updates:
    parameters = list(module.critic.parameters())
    group = LossGroup("critic", ("predict/sign",), parameters, {"optimizer": "sgd", "lr": 0.1}, updates=updates, **rest)
    return Updates([module.first, module.second], groups=[group])


def test_a_group_is_updated_as_if_it_were_alone(tmp_path: Path) -> None:
    """Its optimizer, its losses and its turns by hand in plain PyTorch; the main group does not touch it."""
    config = PLAIN.updated(steps=4, optimizer="adamw", clip=0.0, schedule="constant", warmup=0.0, weight_decay=0.0)
    ours, theirs = Two(), Two()
    theirs.load_state_dict(ours.state_dict())
    run = trainer(tmp_path, config, module=ours, validate=None, updates=with_critic(ours, updates=2))
    history = run.run().history
    critic = torch.optim.SGD(theirs.critic.parameters(), lr=0.1)
    rest = [p for name, p in theirs.named_parameters() if not name.startswith("critic")]
    main = torch.optim.AdamW(rest, lr=config.lr, betas=config.betas, weight_decay=0.0, fused=True)
    for step in range(4):
        (batch,) = batches(step, micro=1)
        for optimizer, name, times in ((critic, "predict/sign", 2), (main, "predict/y", 1)):
            for _ in range(times):
                theirs.zero_grad()
                loss = theirs(batch)[name]
                (loss.sum / loss.count).backward()
                optimizer.step()
        assert history[step]["losses"].keys() == {"predict/sign", "predict/y"}
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)
    assert ours.asked[:6] == [["predict/sign"]] * 4 + [["predict/y"]] * 2, (
        "two micro-batches, two updates, then the rest"
    )


def test_every_group_is_in_the_checkpoint(tmp_path: Path) -> None:
    ends = []
    for place, make in (("straight", batches), ("resumed", stopping_at(5)), ("resumed", batches)):
        module = Two(dropout=0.2)
        updates = with_critic(module)
        group = LossGroup("critic", ("predict/sign",), updates.groups[0].parameters, {"optimizer": "momentum"})
        run = trainer(
            tmp_path / place, PLAIN, make, module, validate=None, updates=Updates(updates.blocks, groups=[group])
        )
        run.run()
        ends.append((digest(module), run.make_step.tensors()))
    assert ends[0][0] == ends[2][0] != ends[1][0]
    assert {"critic.weight.momentum_buffer", "first.weight.momentum_buffer", "out.weight.exp_avg"} <= ends[0][1].keys()
    for name, tensor in ends[0][1].items():
        assert torch.equal(tensor, ends[2][1][name]), name


def test_losses_that_alternate_take_turns(tmp_path: Path) -> None:
    module = Two()
    run = trainer(tmp_path, PLAIN.updated(steps=4, merge="alternate"), module=module, validate=None)
    history = run.run().history
    assert [list(record["losses"]) for record in history] == [["predict/sign"], ["predict/y"]] * 2
    assert module.asked == [["predict/sign"]] * 2 + [["predict/y"]] * 2 + [["predict/sign"]] * 2 + [["predict/y"]] * 2


def test_one_group_asks_for_everything(tmp_path: Path) -> None:
    module = Two()
    trainer(tmp_path, PLAIN.updated(steps=2), module=module, validate=None).run()
    assert module.asked == [None] * 4


def test_what_diverges_after_another_group_was_updated_is_not_saved(tmp_path: Path) -> None:
    """The older checkpoint is the last good state: resuming from it repeats the whole step."""
    module = Two()
    forward = module.forward

    def poisoned(batch: TinyBatch, wanted: Collection[str] | None = None) -> dict[str, Loss]:
        losses = forward(batch, wanted)
        if run.step == 5 and "predict/y" in losses:
            losses["predict/y"].sum = losses["predict/y"].sum * torch.nan
        return losses

    module.forward = poisoned
    run = trainer(tmp_path, PLAIN, module=module, validate=None, updates=with_critic(module))
    with pytest.raises(DivergedError, match="the loss 'predict/y' is nan"):
        run.run()
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-3"]
