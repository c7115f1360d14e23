"""Onetrunk: make a foundation model of your own data and put it to work.

Every verb of the command line is a function here, with the same names and defaults; `load` opens a model folder and
`read` a table. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
import keyword
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# How long a thread that waits for the others keeps its core, between the parts of a step that run on all of them: with
# the OpenMP of Intel and LLVM 1 ms instead of 200, which stall every step for as long as another process has one of
# the cores. It is read only once, when PyTorch is imported. That of GNU, with which PyTorch comes on Linux, is told
# while it runs (`engine.waiting`). Whoever set this, or OMP_WAIT_POLICY, keeps it.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("KMP_BLOCKTIME", "1")

VERBS = (
    "train",
    "tune",
    "inspect",
    "prepare",
    "pretrain",
    "finetune",
    "evaluate",
    "audit",
    "predict",
    "generate",
    "explain",
    "embed",
    "serve",
    "import",
    "export",
    "plan",
    "demo",
    "doctor",
)

__all__ = [
    "__version__",
    "audit",
    "demo",
    "doctor",
    "embed",
    "evaluate",
    "explain",
    "export",
    "finetune",
    "generate",
    "import_",
    "inspect",
    "load",
    "plan",
    "predict",
]
__all__ += ["prepare", "pretrain", "read", "serve", "train", "tune"]

_ELSEWHERE = {"load": "onetrunk.inference.model_folder", "read": "onetrunk.data.table"}


if TYPE_CHECKING:
    from onetrunk.data.table import read
    from onetrunk.inference.model_folder import load
    from onetrunk.verbs.audit import audit
    from onetrunk.verbs.demo import demo
    from onetrunk.verbs.doctor import doctor
    from onetrunk.verbs.embed import embed
    from onetrunk.verbs.evaluate import evaluate
    from onetrunk.verbs.explain import explain
    from onetrunk.verbs.export import export
    from onetrunk.verbs.finetune import finetune
    from onetrunk.verbs.generate import generate
    from onetrunk.verbs.import_ import import_
    from onetrunk.verbs.inspect import inspect
    from onetrunk.verbs.plan import plan
    from onetrunk.verbs.predict import predict
    from onetrunk.verbs.prepare import prepare
    from onetrunk.verbs.pretrain import pretrain
    from onetrunk.verbs.serve import serve
    from onetrunk.verbs.train import train
    from onetrunk.verbs.tune import tune


def verb(name: str) -> Callable[..., Any]:
    """A verb by its command's name; `import` is `import_` in Python."""
    name += "_" * keyword.iskeyword(name)
    return getattr(importlib.import_module(f"onetrunk.verbs.{name}"), name)


def __getattr__(name: str) -> Any:
    if name.rstrip("_") in VERBS:
        return verb(name.rstrip("_"))
    if name in _ELSEWHERE:
        return getattr(importlib.import_module(_ELSEWHERE[name]), name)
    raise AttributeError(f"module 'onetrunk' has no attribute {name!r}")
