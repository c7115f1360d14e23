"""doctor: checks this machine and what it can do."""

from __future__ import annotations

from typing import Any

from onetrunk.training.options import DataOptions
from onetrunk.verbs.shared import takes

# What an extra is for, by the first package that it needs.
PURPOSES = {
    "datasets": "data sets by hf://name",
    "s3fs": "files by s3:// and https://",
    "python-calamine": "workbooks",
    "av": "films",
    "onnx": "ONNX files",
    "gguf": "GGUF files",
    "transformers": "checks against transformers, models by hf://name",
    "h5py": "weights of Keras",
    "bitsandbytes": "weights of 4 bits on accelerators",
    "opacus": "what --private has cost",
    "starlette": "serve",
    "optuna": "tune",
    "wandb": "--track wandb",
    "mlflow-skinny": "--track mlflow",
    "rdkit": "molecules with RDKit",
    "pycocotools": "COCO's average precision",
    "accelerate": "the comparisons of bench/",
}


@takes(DataOptions, "device")
def doctor(options: DataOptions, *, quiet: bool = False) -> dict[str, Any]:
    """Check this machine: versions, cores, memory, accelerators, precision, extras, and a training step that learns.

    Args:
        quiet: print nothing.

    Returns:
        What was found, by name.

    Examples:
        onetrunk doctor
    """
    import os
    import platform
    import shutil

    import torch
    from rich.table import Table

    from onetrunk import __version__
    from onetrunk.engine.mode import has_fast_bf16
    from onetrunk.engine.runtime import Runtime
    from onetrunk.engine.self_test import learns
    from onetrunk.verbs.show import Printer, literal

    runtime = Runtime.open(options.device or "auto")
    facts: dict[str, Any] = {
        "onetrunk": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "free_disk_gb": round(shutil.disk_usage(".").free / 2**30, 1),
        "accelerator": "none: models train on the CPU" if runtime.device.type == "cpu" else runtime.name,
        "fast_bf16": has_fast_bf16(runtime.device),
    }
    facts["extras"] = _extras()
    for dtype in (torch.float32, torch.bfloat16):
        facts[f"gigaflops_{str(dtype).removeprefix('torch.')}"] = round(runtime.gemm_rate(dtype) / 1e9)
    facts["training"] = learns()
    if not quiet:
        table = Table(show_header=False, box=None, pad_edge=False)
        extras = facts["extras"]
        single = {name: value for name, value in facts.items() if value is not extras}
        for name, value in (single | {f"extra {name}": state for name, state in extras.items()}).items():
            table.add_row(literal((name.replace("_", " "), "bold")), literal(str(value)))
        Printer().console.print(table)
    return facts


def _extras() -> dict[str, str]:
    """Of each extra whether it is installed, else what it is for and how to install it."""
    import importlib.metadata
    import re

    needs: dict[str, list[str]] = {}
    for line in importlib.metadata.requires("onetrunk") or []:
        requirement = re.match(r"""([\w.-]+)[^;]*;.*extra == ['"](\w+)['"]""", line)
        if requirement and requirement[2] != "dev":
            needs.setdefault(requirement[2], []).append(requirement[1])
    out = {}
    for name, packages in needs.items():
        missing = [package for package in packages if not _installed(package)]
        install = f"no {', '.join(missing)} ({PURPOSES.get(packages[0], name)}): pip install 'onetrunk[{name}]'"
        out[name] = install if missing else "installed"
    return out


def _installed(package: str) -> bool:
    import importlib.metadata

    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
