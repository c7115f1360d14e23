"""start_up: seconds of `import onetrunk`, of `onetrunk --help`, and to a first step; against `import transformers`.

    python -m bench start_up      about a minute on 2 cores

Every figure is a process of its own, from its start to its end; `python -c pass` alone stands beside them. A server of
a tiny folder counts from its start until it answers that it is ready.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.common import ROOT, Figures, Run

ROUNDS = 5
FIRST_STEP = """
import sys
from onetrunk import pretrain
pretrain({"x": [float(i) for i in range(64)], "y": [float(i % 7) for i in range(64)]}, out=sys.argv[1], quiet=True,
         settings=["pretrain.steps=1", "train.tensorboard=false", "size=nano"])
"""
COMMANDS = {
    "import onetrunk": ["-c", "import onetrunk"],
    "import transformers.Trainer": ["-c", "from transformers import Trainer"],
    "onetrunk --help": ["-m", "onetrunk", "--help"],
    "first step, saved": ["-c", FIRST_STEP],
    "import onetrunk.serving.server": ["-c", "import onetrunk.serving.server"],
    "import torch": ["-c", "import torch"],
    "python alone": ["-c", "pass"],
}


def compare(run: Run) -> Figures:
    from bench.speed import versions

    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    ready: list[float] = []
    for turn in range(ROUNDS):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            arguments = [sys.executable, *command, *([str(run.place / str(turn))] if command[1] == FIRST_STEP else [])]
            subprocess.run(arguments, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - start)
        ready.append(_ready(run.place / str(turn)))
    seconds["a server of a tiny folder, ready"] = ready
    median = {name: statistics.median(each) for name, each in seconds.items()}
    ours, rival = median["import onetrunk"], median["import transformers.Trainer"]
    return Figures(
        ours=ours,
        interval=[min(seconds["import onetrunk"]), max(seconds["import onetrunk"])],
        unit="seconds (less is better)",
        rival_name="from transformers import Trainer",
        rival=rival,
        split={"rounds": ROUNDS},
        ratio=rival / ours,
        also={"medians": median, "peers": versions("transformers")},
    )


def _ready(folder: Path) -> float:
    from bench.load import free_port, running

    port = free_port()
    with running(["-m", "onetrunk", "serve", str(folder), "--port", str(port)], port, "/ready") as seconds:
        return seconds
