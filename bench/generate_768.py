"""generate_768: writing with a causal language model of 12 layers x 768, tokens/s; against transformers and llama.cpp.

    python -m bench generate_768             about 5 minutes on 2 cores
    python -m bench generate_768 --quick     a small run; nothing is kept

16 texts at once and one alone, each from a prompt, greedily, to one length; and the seconds to the first token of one.
All sides write with the same random weights: ours, what our export to transformers reads in `generate`, and what our
export to GGUF reads in llama.cpp (xllamacpp), as f16 and q8_0. Ours and transformers in bf16 where the processor is
fast in it, else in fp32; ours also in fp32, the default of `onetrunk serve`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from bench.common import Figures, Run

QUICK = ["width=32", "layers=1", "heads=2", "vocabulary=400", "prompt=4", "written=4", "streams=2", "rounds=1"]
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16"}


class Amounts(BaseModel):
    model_config = ConfigDict(extra="forbid")
    width: int = Field(768, ge=16)
    layers: int = Field(12, ge=1)
    heads: int = Field(12, ge=1)
    vocabulary: int = Field(32_000, ge=300)
    prompt: int = Field(64, ge=1)  # tokens
    written: int = Field(64, ge=2)  # tokens
    streams: int = Field(16, ge=1)
    rounds: int = Field(2, ge=1)
    sides: list[str] = ["transformers", "llama.cpp f16", "llama.cpp q8_0"]


def writer(shape: dict[str, int]) -> Any:
    """A model of ours that writes texts, with random weights; always the same."""
    import torch

    from onetrunk.data.prepare import fit_columns
    from onetrunk.data.table import Table
    from onetrunk.inference.model_folder import Model, Task
    from onetrunk.model import FoundationModel

    dice = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(letters[dice.integers(0, 26, dice.integers(4, 9))]) for _ in range(2 * shape["vocabulary"])]
    texts = [" ".join(words[i : i + 50]) for i in range(0, len(words), 50)] * 2  # a piece occurs twice at least
    options = {"note": {"vocabulary": shape["vocabulary"], "length": 1024}}
    columns, encoders = fit_columns(Table({"note": texts}), ["note"], {"note": "text"}, options)
    trunk = {name: shape[name] for name in ("width", "layers", "heads")}
    torch.manual_seed(0)
    network = FoundationModel(trunk, columns, encoders, "causal")
    module = network.module("note")
    with torch.no_grad():
        module.head.normal_(0, 0.5, generator=torch.Generator().manual_seed(0))
    return Model(network.eval(), [Task([], ["note"])])


def prompts_of(model: Any, streams: int, prompt: int) -> list[list[int]]:
    """Tokens that are text."""
    encoder = model.encoder("note")
    able = [i for i in range(encoder.size) if i not in encoder.controls]
    return np.random.default_rng(1).choice(able, (streams, prompt)).tolist()


def timed(write: Callable[[list[list[int]], int], int], prompts: list[list[int]], written: int) -> dict[str, float]:
    """`write` goes on from prompts by so many tokens each and says how many there were. After a warm-up."""
    write(prompts[:1], 2)
    out = {}
    start = time.perf_counter()
    write(prompts[:1], 1)
    out["first_token_seconds"] = time.perf_counter() - start
    for name, some in (("tokens_per_s", prompts), ("one_stream_tokens_per_s", prompts[:1])):
        start = time.perf_counter()
        out[name] = write(some, written) / (time.perf_counter() - start)
    return out


def ours(
    shape: dict[str, int], streams: int, prompt: int, written: int, precision: str, place: str
) -> dict[str, float]:
    from onetrunk.columns.families.tokens.encoder import TokenEncoder
    from onetrunk.core.answer import Sampling
    from onetrunk.data.store import Store
    from onetrunk.inference.fixed_weights import fix_weights
    from onetrunk.inference.request import Request
    from onetrunk.inference.session import Session

    model = writer(shape)
    fix_weights(model.network, "bf16" if precision == "bf16" else "fp32")  # as `onetrunk serve --precision` does
    session = Session(model.network, slots=streams, positions=prompt + written + 2)
    encoder = model.encoder("note")
    assert isinstance(encoder, TokenEncoder)

    def write(prompts: list[list[int]], count: int) -> int:
        lens = np.full(len(prompts), len(prompts[0]), dtype=np.int64)
        content = encoder.content_of(np.array(prompts).ravel(), lens)
        nothing = Store([], [], [], np.zeros((len(prompts), 0), dtype=np.int64))
        session.add(Request(nothing, "note", [], Sampling(max_length=count), content))
        tokens = 0
        while session.busy:
            tokens += sum(len(part.answer.written.tokens) for part in session.step())
        return tokens

    return timed(write, prompts_of(model, streams, prompt), written) | {"vocabulary": encoder.size}


def transformers(
    shape: dict[str, int], streams: int, prompt: int, written: int, precision: str, place: str
) -> dict[str, float]:
    import torch
    from transformers import AutoModelForCausalLM

    from onetrunk.interop.huggingface.writer import write as write_checkpoint

    model, folder = writer(shape), Path(place) / "checkpoint"
    folder.mkdir()
    write_checkpoint(model, "note", folder)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, PRECISIONS[precision])).eval()
    start = model.encoder("note").special.start

    @torch.inference_mode()
    def write(prompts: list[list[int]], count: int) -> int:
        ids = torch.tensor([[start, *each] for each in prompts])
        out = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count, do_sample=False
        )
        return int((out.shape[1] - ids.shape[1]) * len(prompts))

    return timed(write, prompts_of(model, streams, prompt), written)


def llama_cpp(
    shape: dict[str, int], streams: int, prompt: int, written: int, kind: str, place: str
) -> dict[str, float]:
    import torch
    import xllamacpp

    model, folder = writer(shape), Path(place)
    write_gguf(model, folder, kind)
    told = xllamacpp.CommonParams()
    told.model.path, told.port, told.verbosity = str(folder / "model.gguf"), 0, -1
    told.n_parallel, told.n_ctx = streams, streams * (prompt + written + 8)
    told.cpuparams.n_threads = told.cpuparams_batch.n_threads = torch.get_num_threads()
    told.cache_prompt = False  # the others read every prompt anew
    server, start = xllamacpp.Server(told), model.encoder("note").special.start

    def one(ids: list[int], count: int) -> int:
        asked = {"prompt": [start, *ids], "temperature": 0, "max_tokens": count, "n_predict": count}
        done = server.handle_completions(asked | {"ignore_eos": True, "cache_prompt": False})
        if "usage" not in done:
            raise RuntimeError(f"llama.cpp answers {str(done)[:300]}")
        return int(done["usage"]["completion_tokens"])

    def write(prompts: list[list[int]], count: int) -> int:
        with ThreadPoolExecutor(len(prompts)) as threads:
            return sum(threads.map(lambda ids: one(ids, count), prompts))

    size = (folder / "model.gguf").stat().st_size / 1e6
    return timed(write, prompts_of(model, streams, prompt), written) | {"megabytes": size}


def write_gguf(model: Any, folder: Path, kind: str) -> None:
    """Our export, its matrices as `kind` (f16 or q8_0), as llama.cpp's own converter writes them."""
    from unittest import mock

    import gguf
    from gguf.quants import quantize

    from onetrunk.interop.gguf import write

    stored = gguf.GGMLQuantizationType.F16 if kind == "f16" else gguf.GGMLQuantizationType.Q8_0

    class Writer(gguf.GGUFWriter):
        def add_tensor(self, name: str, tensor: np.ndarray, *more: Any, **others: Any) -> None:
            if tensor.ndim == 2 and tensor.shape[1] % 32 == 0:
                super().add_tensor(name, quantize(tensor, stored), raw_dtype=stored)
            else:
                super().add_tensor(name, tensor, *more, **others)

    with mock.patch.object(gguf, "GGUFWriter", Writer):
        write(model, "note", folder)


def compare(run: Run) -> Figures:
    from bench.speed import alternate, amounts_of, fast_precision, figures, median, versions

    amounts = amounts_of(run, Amounts)
    shape = {name: getattr(amounts, name) for name in ("width", "layers", "heads", "vocabulary")}
    shared = {"shape": shape, "streams": amounts.streams, "prompt": amounts.prompt, "written": amounts.written}
    precision = fast_precision()
    own = {"call": "bench.generate_768:ours", **shared}
    theirs: dict[str, dict[str, Any]] = {
        "transformers": {"call": "bench.generate_768:transformers", **shared, "precision": precision},
        "llama.cpp f16": {"call": "bench.generate_768:llama_cpp", **shared, "kind": "f16"},
        "llama.cpp q8_0": {"call": "bench.generate_768:llama_cpp", **shared, "kind": "q8_0"},
    }
    sides = {f"ours {precision}": {**own, "precision": precision}}
    for name in amounts.sides if run.rival else []:
        sides[f"{name} {precision}" if name == "transformers" else name] = theirs[name]
    if precision != "fp32":
        sides["ours fp32"] = {**own, "precision": "fp32"}
    found = alternate(run, sides, amounts.rounds)
    keys = ("tokens_per_s", "one_stream_tokens_per_s", "first_token_seconds")
    return figures(
        found, "tokens_per_s", f"tokens/s of {amounts.streams} streams", faster_is_more=True,
        split=amounts.model_dump() | {"precision": precision},
        medians={name: {key: median(each, key) for key in keys} for name, each in found.items()},
        peers=versions("transformers", "xllamacpp", "gguf"),
    )  # fmt: skip
