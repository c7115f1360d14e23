"""The processes of one run, as torchrun starts them. Rank 0 is the program: it reads the command and the data, decides,
validates, saves and speaks, as a process alone does. The others lend it a hand: they wait until it hands them a `Task`,
do their part of it, and wait again. So everything is decided once, and only a step knows that there are others.

What travels between them is pickled, as `torch.distributed` itself does it: they are one user's processes, running the
same program, on a network that nobody else may reach (docs/scale.md).
"""

from __future__ import annotations

import mmap
import os
import pickle
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from onetrunk.core.errors import LostProcessError, UsageError, is_out_of_memory

_TIMEOUT = "ONETRUNK_TIMEOUT"  # seconds that a process waits for the others in a step
_SECONDS = 600.0
_PATIENCE = timedelta(days=30)  # for what rank 0 does alone; where it dies, the others hear of it at once
_AT_ONCE = 64 << 20  # bytes of a file that go from machine to machine
_ALIGNED = 64  # bytes: where an array begins in it


class AgreedError(Exception):
    """Raised in every process alike: nobody is left waiting for the others."""


class Task(Protocol):
    """What helpers do when rank 0 hands it to them, each its part."""

    def __call__(self, world: World) -> None: ...


class World:
    """`rank` is this process's number among `size`, `local_rank` among the `local_size` of its machine. `groups`, of
    torch.distributed, are for steps and for waiting. Alone, there is nobody to tell."""

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        local_rank: int = 0,
        local_size: int = 1,
        groups: tuple[Any, Any] = (None, None),
    ) -> None:
        self.rank, self.size, self.local_rank, self.local_size = rank, size, local_rank, local_size
        self.steps, self._waiting = groups
        self._left_behind = False  # are the others in the middle of something that this process has left?
        self._mapped: mmap.mmap | None = None  # the file of the task that this process has taken

    @property
    def alone(self) -> bool:
        return self.size == 1

    # -- rank 0 and its helpers --------------------------------------------------------------------------------------
    def tell(self, message: Any) -> None:
        """Rank 0 tells its helpers. Nothing where there are none, or where they no longer listen."""
        if not self.alone and not self._left_behind:
            self._broadcast(packed(message))

    def hear(self) -> Any:
        """What rank 0 tells next, however long that takes."""
        return unpacked(self._broadcast(None))

    def hand_out(self, task: Task) -> None:
        """Rank 0 gives its helpers a task. Its arrays lie in a file that all processes of a machine map: what they do
        not change they share."""
        if self.alone:
            return
        if self._left_behind:
            raise LostProcessError("The other processes of this run were left in a step that failed: start it again.")
        aside: list[pickle.PickleBuffer] = []
        pickled = packed(task, aside.append)
        arrays = [buffer.raw() for buffer in aside]
        with tempfile.NamedTemporaryFile(prefix="onetrunk-") as file:
            for array in arrays:
                file.write(array)
                file.write(bytes(-array.nbytes % _ALIGNED))
            file.flush()
            self.tell((pickled, [array.nbytes for array in arrays], Path(file.name).name))
            if self.size > self.local_size:
                file.seek(0)
                while chunk := file.read(_AT_ONCE):
                    self._broadcast(chunk)
            self.gather(None)  # it is on every machine,
            self.gather(None)  # and mapped by every process

    def take_task(self) -> Task | None:
        """The next task that rank 0 hands out, None at the end. Its arrays and tensors lie in the mapped file: this
        process may change them, and others do not see it."""
        self._mapped = None
        if (told := self.hear()) is None:
            return None
        pickled, sizes, name = told
        lengths = [size + -size % _ALIGNED for size in sizes]
        path, whole = Path(tempfile.gettempdir()) / name, memoryview(b"")
        if self.rank >= self.local_size:  # on another machine, the first of which keeps what it is sent
            path = path.with_name(f"{name}-{self.rank - self.local_rank}")
        if self.size > self.local_size:
            self._receive(path, sum(lengths))
        self.gather(None)
        if sizes:
            with path.open("rb") as file:
                self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
                whole = memoryview(self._mapped)
        self.gather(None)
        if self.rank >= self.local_size and self.local_rank == 0:
            path.unlink()
        starts = accumulate(lengths, initial=0)
        task: Task = unpacked(pickled, [whole[at : at + size] for at, size in zip(starts, sizes, strict=False)])
        return task

    def forget_file(self) -> None:
        """Takes out of memory what was read of the task's file: it is read again when it is asked for. What has been
        changed in it would be lost."""
        if self._mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._mapped.madvise(mmap.MADV_DONTNEED)

    def _receive(self, path: Path, size: int) -> None:
        keeps = self.rank >= self.local_size and self.local_rank == 0
        with open(path if keeps else os.devnull, "wb") as file:
            while size > 0:
                chunk = self._broadcast(None)
                size -= len(chunk)
                file.write(chunk)

    # -- in a step ---------------------------------------------------------------------------------------------------
    @contextmanager
    def together(self) -> Iterator[None]:
        """Inside, all processes do the same; one that leaves by an error that is not the others' (`AgreedError`) leaves
        them waiting, and tells them nothing any more: they end when it does."""
        try:
            yield
        except AgreedError:
            raise
        except BaseException:
            self._left_behind = True
            raise

    def gather(self, value: Any) -> list[Any]:
        """Everyone's value, in the order of ranks."""
        if self.alone:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        with self._others():
            dist.all_gather_object(values, value, group=self.steps)
        return values

    def add_in_order(self, rows: Tensor, counts: list[int]) -> Tensor:
        """The sum of everyone's rows, [own rows, n] to [n], added one after the other in the order of ranks: the same
        bits whoever holds which row, where a plain all-reduce adds in an order of its own. `counts`: each rank's rows.

        Each process gets its piece of every row, adds them up, and gives the sum to all: no more is sent than by a ring
        all-reduce.
        """
        n = rows.shape[1]
        piece = -(-n // self.size)
        pieces = rows.new_zeros(len(rows), self.size * piece)
        pieces[:, :n] = rows
        pieces = pieces.view(len(rows), self.size, piece).transpose(0, 1).contiguous()
        received = rows.new_empty(sum(counts), piece)
        sent, got = [len(rows) * piece] * self.size, [count * piece for count in counts]
        self._swap(received.view(-1), pieces.view(-1), got, sent)
        del pieces
        total = received[0].clone()
        for row in received[1:]:
            total += row
        del received
        whole = rows.new_empty(self.size * piece)
        # As all_gather does it, for which gloo's threads would keep as much memory again, each for itself.
        self._swap(whole, total.repeat(self.size), [piece] * self.size, [piece] * self.size)
        return whole[:n]

    def _swap(self, received: Tensor, pieces: Tensor, got: list[int], sent: list[int]) -> None:
        """Each process's pieces go to those whose they are."""
        import torch.distributed as dist

        with self._others():
            dist.all_to_all_single(received, pieces, got, sent, group=self.steps)

    def _broadcast(self, message: bytes | None) -> Any:
        """Rank 0's message."""
        import torch.distributed as dist

        messages: list[Any] = [message]
        with self._others():
            dist.broadcast_object_list(messages, group=self._waiting)
        return messages[0]

    @contextmanager
    def _others(self) -> Iterator[None]:
        """Turns what the library says of a process that is gone into a plain error."""
        try:
            yield
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self._left_behind = True
            raise LostProcessError(
                f"Another process of this run is gone, or does not answer ({str(error).splitlines()[0][:200]}). Its "
                "own message says why, unless it was killed. The same command goes on from the last checkpoint; "
                "torchrun --max-restarts=3 gives it again by itself."
            ) from error

    def leave(self) -> None:
        """Ends it, in order: rank 0 dismisses its helpers. The groups end with the last reference to them: one whose
        threads still put messages away when the interpreter goes would abort the process, after all is done."""
        import torch.distributed as dist

        if self.rank == 0:
            self.tell(None)
        if not self._left_behind:
            self.steps = self._waiting = None
            dist.destroy_process_group()


class ImaginedWorld(World):
    """Rank 0 of so many processes that are not there: what they would send never comes. To count what a step takes."""

    def __init__(self, size: int) -> None:
        super().__init__(0, size, 0, size)

    def _swap(self, received: Tensor, pieces: Tensor, got: list[int], sent: list[int]) -> None: ...


_current = World()


def current() -> World:
    """The world of this process: it is alone unless it has joined others."""
    return _current


def launched() -> bool:
    """Was this process started as one of several, by torchrun?"""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "LOCAL_RANK" in os.environ


def join() -> World:
    """Meets the other processes, where torchrun says. On one machine nothing that is opened here listens on a network.
    Raises UsageError for a timeout that is none, LostProcessError where the others do not come."""
    global _current
    import torch.distributed as dist

    of = {name: int(os.environ[name.upper()]) for name in ("rank", "world_size", "local_rank", "local_world_size")}
    try:
        timeout = timedelta(seconds=float(os.environ.get(_TIMEOUT, _SECONDS)))
    except (ValueError, OverflowError):
        raise UsageError(f"{_TIMEOUT} expects seconds, found {os.environ[_TIMEOUT]!r}.") from None
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    one_machine = of["world_size"] == of["local_world_size"]
    if one_machine and loopback in (name for _, name in socket.if_nameindex()):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    world = World(of["rank"], of["world_size"], of["local_rank"], of["local_world_size"])
    with world._others():
        met = {}
        if one_machine and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":  # torchrun has opened none
            met = {"store": _store_on_loopback(world, timeout), "rank": world.rank, "world_size": world.size}
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=timeout, **met)
        # Rank 0 is not kept waiting by those who wait for it.
        world._waiting = dist.new_group(backend="gloo", timeout=_PATIENCE if world.rank else timeout)
    _current = world
    return world


def _store_on_loopback(world: World, timeout: timedelta) -> Any:
    """Where the processes of one machine meet; PyTorch's own listens on every interface."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # it is public, and not listed as such

    host, port, listening = "127.0.0.1", int(os.environ["MASTER_PORT"]), None
    if world.rank == 0:
        try:
            listening = socket.create_server((host, port)).detach()
        except OSError as error:
            raise LostProcessError(f"The processes cannot meet at port {port} (MASTER_PORT): {error}.") from None
    return TCPStore(host, port, world.size, world.rank == 0, timeout, master_listen_fd=listening)


def lend_a_hand(world: World) -> None:
    """Does what rank 0 hands out, until it has nothing more to do."""
    while (task := world.take_task()) is not None:
        task(world)


# -- what is sent ----------------------------------------------------------------------------------------------------
class _Pickler(pickle.Pickler):
    """Tensors are sent as arrays, from whatever device: who gets them places them."""

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return NotImplemented
        plain = value.detach().cpu().contiguous()
        array = plain.reshape(-1).view(torch.uint8).numpy() if plain.numel() else np.zeros(0, dtype=np.uint8)
        return _tensor, (array, plain.dtype, plain.shape, isinstance(value, nn.Parameter), value.requires_grad)


def _tensor(array: np.ndarray, dtype: torch.dtype, shape: torch.Size, parameter: bool, trained: bool) -> Tensor:
    tensor = torch.from_numpy(array).view(dtype).view(shape) if array.size else torch.zeros(shape, dtype=dtype)
    return nn.Parameter(tensor, requires_grad=trained) if parameter else tensor.requires_grad_(trained)


def packed(value: Any, aside: Callable[[pickle.PickleBuffer], Any] | None = None) -> bytes:
    """A value as another process takes it up (`unpacked`). `aside` gets its arrays, if it is there."""
    stream = BytesIO()
    _Pickler(stream, protocol=5, buffer_callback=aside).dump(value)
    return stream.getvalue()


def unpacked(pickled: bytes, arrays: Iterable[memoryview | pickle.PickleBuffer] = ()) -> Any:
    """With the arrays that were put aside, in their order; tensors share them. Only of what another process of this run
    has sent."""
    return pickle.loads(pickled, buffers=arrays)
