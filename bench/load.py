"""What the comparisons of servers share: a server in a process of its own, and clients that ask it without a pause."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import ROOT

_READY_SECONDS = 300
WORDS = [
    first + second
    for first in ("wa", "co", "lou", "qui", "cle", "di", "bro", "fi", "du", "no", "ti", "ra", "se", "mu", "ho")
    for second in ("rm", "ld", "d", "et", "an", "rty", "ken", "ne", "ll", "isy", "red", "in", "lt", "sic", "tel")
]  # fmt: skip


def texts(count: int, shortest: int, longest: int, seed: int = 0) -> list[str]:
    """Texts of so many words, drawn."""
    dice = np.random.default_rng(seed)
    return [" ".join(dice.choice(WORDS, dice.integers(shortest, longest + 1))) for _ in range(count)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: Sequence[str], port: int, ready: str) -> Iterator[float]:
    """A server, which answers `ready` with 200 when it takes requests; gives the seconds until it did. It is ended."""
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TOKENIZERS_PARALLELISM": "false",
                   "HF_HUB_OFFLINE": "1"}  # fmt: skip
    server = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment, start_new_session=True,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        while not _answers(f"http://127.0.0.1:{port}{ready}"):
            if server.poll() is not None or time.perf_counter() - start > _READY_SECONDS:
                raise RuntimeError(f"{' '.join(command)} does not answer {ready}")
            time.sleep(0.01)
        yield time.perf_counter() - start
    finally:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(30)
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)  # its processes, too: those of LitServe go on without it


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as reply:
            return bool(reply.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def measure(
    command: Sequence[str], port: int, ready: str, path: str, bodies: Sequence[Any], clients: int, seconds: float
) -> dict[str, float]:
    """Requests a second and milliseconds of many clients at once, then of one alone, each after a warm-up."""
    with running(command, port, ready) as until_ready:
        ask(port, path, bodies, clients, seconds / 4)
        many, one = ask(port, path, bodies, clients, seconds), ask(port, path, bodies, 1, seconds / 4)
    return {
        "requests_per_s": many["requests_per_s"],
        "p50_ms": many["p50_ms"],
        "p95_ms": many["p95_ms"],
        "one_client_p50_ms": one["p50_ms"],
        "one_client_requests_per_s": one["requests_per_s"],
        "ready_seconds": until_ready,
    }


def ask(port: int, path: str, bodies: Sequence[Any], clients: int, seconds: float) -> dict[str, float]:
    """Each client keeps its connection and sends its next request when it has its reply. Raises RuntimeError where a
    reply has another status than 200."""
    requests = [_request(path, json.dumps(body).encode()) for body in bodies]
    took: list[float] = []

    async def client(number: int, end: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for i in range(number, 1 << 62, clients):  # one at least
            start = time.perf_counter()
            writer.write(requests[i % len(requests)])
            await _read(reader)
            took.append(time.perf_counter() - start)
            if time.perf_counter() >= end:
                break
        writer.close()

    async def all_clients() -> float:
        start = time.perf_counter()
        await asyncio.gather(*(client(number, start + seconds) for number in range(clients)))
        return time.perf_counter() - start

    whole = asyncio.run(all_clients())
    milliseconds = 1000 * np.array(took)
    return {
        "requests_per_s": len(took) / whole,
        "p50_ms": float(np.median(milliseconds)),
        "p95_ms": float(np.quantile(milliseconds, 0.95)),
    }


def _request(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


async def _read(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    body = await reader.readexactly(int(fields["content-length"]))
    if lines[0].split()[1] != "200":
        raise RuntimeError(f"{lines[0]}: {body[:300].decode(errors='replace')}")
    return body


# -- models of one shape -----------------------------------------------------------------------------------------------
def classifier_folder(place: Path, rows: dict[str, list[Any]], shape: dict[str, Any], length: int) -> Path:
    """A folder of ours that answers `label` from all other columns of these rows, with random weights."""
    from onetrunk.data.prepare import fit_columns
    from onetrunk.data.table import Table
    from onetrunk.inference.model_folder import Model, Task
    from onetrunk.model import FoundationModel

    types = {name: "number" if isinstance(values[0], int) else "category" for name, values in rows.items()}
    types["review"] = "text"
    options = {"review": {"length": length, "vocabulary": 1000}}
    columns, encoders = fit_columns(Table(rows), list(rows), types, options)
    network = FoundationModel(shape, columns, encoders, "bidirectional")
    model = Model(network.eval(), [Task([name for name in rows if name != "label"], ["label"])])
    model.save(place / "model")
    return place / "model"


def bert_folder(place: Path, rows: dict[str, list[Any]], shape: dict[str, Any], length: int) -> Path:
    """A BERT of the same shape, with a tokenizer of whole words, as transformers' pipelines open it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    words = dict.fromkeys(word for text in as_texts(rows) for word in text.split())
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=shape["width"], num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"], intermediate_size=4 * shape["width"], max_position_embeddings=length,
    )  # fmt: skip
    BertForSequenceClassification(config).eval().save_pretrained(place / "bert")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]",
                                   model_max_length=length)  # fmt: skip
    fast.save_pretrained(place / "bert")
    return place / "bert"


def as_texts(rows: dict[str, list[Any]]) -> list[str]:
    """Each row's given columns as one text, which is how a classifier of texts gets to see them."""
    given = [name for name in rows if name != "label"]
    return [" ".join(f"{name} {rows[name][i]}" for name in given) for i in range(len(rows["label"]))]
