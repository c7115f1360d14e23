"""What the comparisons of classifiers that are served share: how much is done, and the sides. Each comparison says what
its rows are and how ours is asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from bench.common import Figures, Run

LENGTH, ROWS = 256, 256
RIVALS = {"fastapi": "pipeline, FastAPI", "litserve": "pipeline, LitServe", "onnx": "ONNX Runtime, LitServe"}


class ServerAmounts(BaseModel):
    """A comparison says what stands here by default."""

    model_config = ConfigDict(extra="forbid")
    width: int = Field(ge=16)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    clients: int = Field(32, ge=1)
    seconds: float = Field(8.0, gt=0)  # of the load of many clients
    rounds: int = Field(3, ge=1)
    rivals: list[str]
    bf16: bool = False  # also all that can in bf16, where the processor is fast in it

    @property
    def shape(self) -> dict[str, Any]:
        mlp = {"activation": "gelu", "mlp_width": 4 * self.width}
        return {"width": self.width, "layers": self.layers, "heads": self.heads, **mlp}


def ours(
    table: dict[str, list[Any]],
    route: str,
    bodies: Sequence[Any],
    shape: dict[str, Any],
    clients: int,
    seconds: float,
    precision: str,
    place: str,
) -> dict[str, float]:
    from bench.load import classifier_folder, free_port, measure

    folder, port = classifier_folder(Path(place), table, shape, LENGTH), free_port()
    command = ["-m", "onetrunk", "serve", str(folder), "--port", str(port), "--device", "cpu", "--precision", precision]
    return measure(command, port, "/ready", route, bodies, clients, seconds)


def rival(
    table: dict[str, list[Any]],
    texts: Sequence[str],
    kind: str,
    shape: dict[str, Any],
    clients: int,
    seconds: float,
    precision: str,
    place: str,
) -> dict[str, float]:
    from bench.load import bert_folder, free_port, measure
    from bench.rival_servers import write_onnx

    folder, port = bert_folder(Path(place), table, shape, LENGTH), free_port()
    if kind == "onnx":
        write_onnx(str(folder))
    command = ["-m", "bench.rival_servers", kind, str(folder), str(port), precision]
    return measure(command, port, "/health", "/predict", [{"text": text} for text in texts], clients, seconds)


def compare(run: Run, amounts: ServerAmounts, module: str) -> Figures:
    """Ours and the rivals of `module` (its functions `ours` and `rival`), in fp32; against the fastest rival."""
    from bench.speed import alternate, fast_precision, figures, median, versions

    shared = {"shape": amounts.shape, "clients": amounts.clients, "seconds": amounts.seconds}
    sides: dict[str, dict[str, Any]] = {}
    for precision in ["fp32", *(["bf16"] if amounts.bf16 and fast_precision() == "bf16" else [])]:
        also = "" if precision == "fp32" else f", {precision}"
        sides[f"ours{also}"] = {"call": f"{module}:ours", **shared, "precision": precision}
        for kind in amounts.rivals if run.rival else []:
            if precision == "fp32" or kind != "onnx":  # of which there is no product in bf16 on a CPU
                side = {"call": f"{module}:rival", "kind": kind, **shared, "precision": precision}
                sides[f"{RIVALS[kind]}{also}"] = side
    found = alternate(run, sides, amounts.rounds)
    rivals = [name for name in found if name != "ours"]
    rivals.sort(key=lambda name: (name.endswith("bf16"), -median(found[name], "requests_per_s")))
    found = {name: found[name] for name in ["ours", *rivals]}
    return figures(
        found, "requests_per_s", "requests/s", faster_is_more=True, split=amounts.model_dump(),
        medians={name: {key: median(each, key) for key in each[0] if key != "whole_seconds"}
                 for name, each in found.items()},
        peers=versions("transformers", "fastapi", "litserve", "uvicorn", "onnxruntime"),
    )  # fmt: skip
