"""Runs of several processes, with gloo: `python ranks.py SCENARIO FOLDER` prints what they found out, as JSON.

Processes are forks, so that PyTorch is loaded once; torchrun's own variables tell each who it is.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed  # here once, and not in every fork
from tiny import CONFIG, ROWS, Tiny, TinyBatch, batches, digest, loss_bits, trainer
from torch import Tensor, nn

from onetrunk.core.batch import Loss
from onetrunk.core.errors import DivergedError, OnetrunkError
from onetrunk.core.objective import LossGroup
from onetrunk.engine import world
from onetrunk.engine.eight_bits import pack
from onetrunk.engine.sharded import Shards, SumInOrder
from onetrunk.engine.step import Updates
from onetrunk.storage.tensors import load_tensors

LOST = 7
PATIENCE = 240  # seconds, after which a process that hangs says where, and ends
PORTS = range(20_000, 32_000)  # below those that the system hands out by itself
SHORT = CONFIG.updated(steps=5, validate_every=0)


class Many(Tiny):
    """With a critic, and a part that only the first rows use: one rank has it, another has not."""

    regular = False  # does it run on nothing where there are no such rows?

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__(dropout)
        self.critic, self.rare = nn.Linear(2, 1), nn.Linear(8, 1)

    def forward(self, batch: TinyBatch, wanted: Any = None) -> dict[str, Loss]:
        losses = super().forward(batch)
        y = self.out(torch.tanh(self.second(torch.relu(self.first(batch.x)))))
        even = torch.from_numpy(batch.row % 2 == 0)
        each = (self.critic(y.detach())[even, 0] - batch.x[even, 0].sign()) ** 2
        losses["predict/sign"] = Loss(each.sum(), even.sum(), each.detach())
        first = torch.from_numpy(batch.row < ROWS // 4)
        if self.regular or first.any():
            losses["predict/y"].sum = losses["predict/y"].sum + self.rare(batch.x[first]).square().sum()
        return losses if wanted is None else {name: losses[name] for name in losses if name in wanted}


class Regular(Many):
    """As a learner is: what a batch lacks is run on nothing."""

    regular = True


def uneven(step: int) -> list[TinyBatch]:
    """One, two or three micro-batches: some ranks have more than others, some have none."""
    return sorted(batches(step, 1 + step % 3), key=lambda batch: batch.row.min())


def poisoned(step: int) -> list[TinyBatch]:
    made = uneven(step)
    if step == 2:
        made[-1].x[0] = torch.nan
    return made


def slow(step: int) -> list[TinyBatch]:
    time.sleep(0.02)
    return batches(step)


def critic(module: Many) -> Updates:
    group = LossGroup("critic", ("predict/sign",), list(module.critic.parameters()), {"optimizer": "sgd"}, updates=2)
    return Updates([module.first, module.second], groups=[group])


KINDS: dict[str, dict[str, Any]] = {
    "sum": {},
    "pcgrad": {"merge": "pcgrad"},
    "alternate": {"merge": "alternate", "balance": "learnt"},
    "critic": {},
}


def ends(place: Path, shares: int, kinds: Iterable[str] = KINDS) -> dict[str, Any]:
    """How runs end: the weights, the losses, what the optimizer keeps, and why one diverges."""
    found: dict[str, Any] = {}
    for kind in kinds:
        module = Many()
        rest = {"updates": critic(module)} if kind == "critic" else {}
        run = trainer(place / kind, SHORT.updated(shares=shares, **KINDS[kind]), uneven, module, **rest)
        run.run()
        kept = {name: tensor.tolist() for name, tensor in run.make_step.tensors().items()}
        found[kind] = [digest(module), loss_bits(place / kind), json.dumps(kept), run.totals["documents"]]
    module = Many()
    try:
        trainer(place / "poisoned", SHORT.updated(shares=shares), poisoned, module).run()
    except DivergedError as error:
        found["diverged"] = [str(error).replace(str(place), ""), digest(module)]
    found["dry"] = len(trainer(place / "dry", SHORT, uneven).dry_run(0.0))
    return found


@dataclass(frozen=True)
class Stopping:
    """Batches; while those of one step are made, each process gets a SIGTERM."""

    at: int

    def __call__(self, step: int) -> list[TinyBatch]:
        if step == self.at:
            os.kill(os.getpid(), signal.SIGTERM)
        return uneven(step)


def weights(place: Path, sharded: bool, kinds: Iterable[str]) -> dict[str, Any]:
    """What runs of every kind end with."""
    found: dict[str, Any] = {}
    for kind in kinds:
        module = Regular()
        rest = {"updates": critic(module)} if kind == "critic" else {}
        config = CONFIG.updated(steps=5, validate_every=4, shares=2, sharded=sharded, **KINDS[kind])
        history = trainer(place / kind, config, uneven, module, **rest).run().history
        kept = load_tensors(place / kind / "checkpoints/step-5/optimizer.safetensors")
        found[kind] = {
            "weights": {name: tensor.tolist() for name, tensor in module.state_dict().items()},
            "optimizer": {name: tensor.tolist() for name, tensor in kept.items()},
            "losses": {str(r["step"]): r["losses"]["predict/y"] for r in history if "predict/y" in r.get("losses", {})},
        }
    return found


# -- processes -------------------------------------------------------------------------------------------------------
def end_where_it_hangs() -> None:
    """Each process does this for itself: a fork does not inherit an alarm."""
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.alarm(PATIENCE)


def start(size: int, work: Callable[[], None], then: Callable[[int], None] = lambda rank: None) -> list[int]:
    """Forks so many processes: rank 0 does the work, the others lend it a hand; when a rank has left the others, it
    does what comes then. Returns their ids."""
    port = _free_port()
    return [_fork(rank, size, port, work, then) for rank in range(size)]


def _free_port() -> int:
    """Not one that the system hands out: another program could be given it before rank 0 takes it."""
    while True:
        with socket.socket() as free:
            port = random.SystemRandom().choice(PORTS)
            try:
                free.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _fork(rank: int, size: int, port: int, work: Callable[[], None], then: Callable[[int], None]) -> int:
    if pid := os.fork():
        return pid
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()}, MASTER_ADDR="127.0.0.1")
    end_where_it_hangs()
    try:
        joined = world.join()
        if rank:
            world.lend_a_hand(joined)
        else:
            work()
        joined.leave()
        then(rank)
    except OnetrunkError as error:
        print(f"rank {rank}: {error}", file=sys.stderr, flush=True)
        os._exit(error.exit_code)
    os._exit(0)


def wait_for(log: Path, records: int, pids: list[int]) -> None:
    """Until a run of these processes has written so many."""
    while not (log.exists() and log.read_text().count("\n") >= records):
        if any(os.waitpid(pid, os.WNOHANG)[0] for pid in pids):
            raise ChildProcessError(f"A rank has ended before {log} had {records} records.")
        time.sleep(0.02)


def wait(pids: list[int]) -> list[int]:
    """Their exit codes, negative for a signal."""
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def equal(place: Path) -> dict[str, Any]:
    """The same runs by two ranks and by one; by four, of which two have nothing to do; and of four shares."""
    runs: dict[str, tuple[int, int, list[str]]] = {
        "two": (2, 0, list(KINDS)),
        "one": (1, 2, list(KINDS)),
        "four": (4, 2, ["critic"]),
        "four-shares": (4, 4, ["pcgrad"]),
        "one-of-four": (1, 4, ["pcgrad"]),
    }
    found = {}
    for name, (size, shares, kinds) in runs.items():
        result = place / f"{name}.json"

        def work(name: str = name, shares: int = shares, kinds: list[str] = kinds, result: Path = result) -> None:
            result.write_text(json.dumps(ends(place / name, shares, kinds)))

        if size == 1:
            work()
        elif any(codes := wait(start(size, work))):
            return {"failed": [name, codes]}
        found[name] = json.loads(result.read_text())
    return found


def sharded(place: Path) -> dict[str, Any]:
    """Runs with whole weights by one process; with sharded ones by two ranks, by four, some of which have no micro-
    batch left, and by two ranks that are stopped, one of which goes on alone."""
    found = {"one": weights(place / "one", False, KINDS)}
    for name, size, kinds in (("two", 2, list(KINDS)), ("four", 4, ["critic"])):
        result = place / f"{name}.json"

        def work(name: str = name, kinds: list[str] = kinds, result: Path = result) -> None:
            result.write_text(json.dumps(weights(place / name, True, kinds)))

        if any(codes := wait(start(size, work))):
            return {"failed": [name, codes]}
        found[name] = json.loads(result.read_text())

    def stopped() -> None:
        config = CONFIG.updated(steps=5, validate_every=4, shares=2, sharded=True)
        assert trainer(place / "again" / "sum", config, Stopping(1), Regular()).run().interrupted

    if any(codes := wait(start(2, stopped))):
        return {"failed": ["stopped", codes]}
    found["again"] = weights(place / "again", False, ["sum"])
    return found


@dataclass(frozen=True)
class Adding:
    """What a rank keeps of the sum of gradients that every rank has a part of."""

    size: int

    def of(self, rank: int) -> Tensor:
        return torch.randn(self.size * 1000, generator=torch.Generator().manual_seed(rank))

    def __call__(self, joined: world.World) -> list[list[float]]:
        """Of all ranks."""
        kept, everyone = torch.empty(1000), torch.distributed.group.WORLD
        assert everyone is not None
        SumInOrder()(kept, self.of(joined.rank), everyone, None)
        return joined.gather(kept.tolist())


def sums(place: Path) -> dict[str, Any]:
    """Of each rank, as FSDP2 has them added, and one after the other."""
    size, result = 4, place / "sums.json"

    def work() -> None:
        world.current().hand_out(Adding(size))
        result.write_text(json.dumps(Adding(size)(world.current())))

    if any(codes := wait(start(size, work))):
        return {"failed": codes}
    first, *others = map(Adding(size).of, range(size))
    for other in others:
        first = first + other
    return {"kept": json.loads(result.read_text()), "expected": first.view(size, -1).tolist()}


@dataclass(frozen=True)
class EightBits:
    """State in 8 bits of a parameter that is divided: each has that of its rows."""

    rows: int

    def whole(self) -> dict[str, Any]:
        return {"exp_avg": torch.randn(self.rows, 128, generator=torch.Generator().manual_seed(0))}

    def __call__(self, joined: world.World) -> dict[str, Any]:
        """All of it, put together again."""
        shards = Shards(nn.Linear(128, self.rows, bias=False), [], joined, torch.device("cpu"))
        own = shards.own["weight"]
        state = {key: shards.part(own, each).clone() for key, each in self.whole().items()}
        pack(state)
        return {key: shards.whole(own, each).tolist() for key, each in state.items()}


def eight_bits(place: Path) -> Any:
    """What two ranks keep of a parameter of five rows, and of one of a single row, beside what one process does."""
    found = []
    for rows in (5, 1):
        task, end = EightBits(rows), place / f"{rows}.json"

        def work(task: EightBits = task, end: Path = end) -> None:
            world.current().hand_out(task)
            end.write_text(json.dumps(task(world.current())))

        if any(codes := wait(start(2, work))):
            return {"failed": codes}
        pack(whole := task.whole())
        found.append([json.loads(end.read_text()), {key: each.tolist() for key, each in whole.items()}])
    return found


def kill(place: Path) -> list[Any]:
    """Runs of two ranks of which one is killed; what was killed, how all ended and how soon, and how the run ends that
    goes on from there, on one rank or two."""
    os.environ["ONETRUNK_TIMEOUT"] = "30"  # gloo wakes nobody whose message was just on its way to the one killed
    draw, found = random.Random(0), []
    for turn in range(int(os.environ.get("TURNS", "2"))):
        folder, end = place / str(turn), place / f"{turn}.json"

        def work(folder: Path = folder, end: Path = end) -> None:
            run = trainer(folder, CONFIG.updated(shares=2), slow)
            run.run()
            end.write_text(json.dumps([digest(run.module), loss_bits(folder)]))

        pids, killed = start(2, work), turn % 2
        wait_for(folder / "metrics.jsonl", 1 + draw.randrange(9), pids)
        time.sleep(draw.uniform(0, 0.01))
        os.kill(pids[killed], signal.SIGKILL)
        began = time.monotonic()
        codes = wait(pids)
        seconds = time.monotonic() - began
        if turn % 4 in (1, 2):
            work()
        elif any(again := wait(start(2, work))):
            return [["failed", turn, again]]
        found.append([killed, codes, seconds, json.loads(end.read_text())])
    return found


def left(place: Path) -> Any:
    """How many threads ranks have that have summed something and left the others."""

    def work() -> None:
        world.current().hand_out(Adding(2))
        Adding(2)(world.current())

    def then(rank: int) -> None:
        (place / f"{rank}.json").write_text(json.dumps(len(os.listdir("/proc/self/task"))))

    if any(codes := wait(start(2, work, then))):
        return {"failed": codes}
    return [json.loads((place / f"{rank}.json").read_text()) for rank in range(2)]


def hang(place: Path) -> list[Any]:
    """A rank that no longer does anything: how the other ends, and how soon."""
    os.environ["ONETRUNK_TIMEOUT"] = "3"

    def work() -> None:
        trainer(place, CONFIG, slow).run()

    pids = start(2, work)
    wait_for(place / "metrics.jsonl", 1, pids)
    os.kill(pids[1], signal.SIGSTOP)
    began = time.monotonic()
    (code,) = wait(pids[:1])
    seconds = time.monotonic() - began
    os.kill(pids[1], signal.SIGKILL)
    wait(pids[1:])
    return [code, seconds]


if __name__ == "__main__":
    scenarios = {
        "equal": equal,
        "sharded": sharded,
        "sums": sums,
        "kill": kill,
        "hang": hang,
        "eight_bits": eight_bits,
        "left": left,
    }
    end_where_it_hangs()
    torch.set_num_threads(1)
    torch.optim.SGD([torch.zeros(1, requires_grad=True)])  # what an optimizer imports, here once, too
    print(json.dumps(scenarios[sys.argv[1]](Path(sys.argv[2]))))
