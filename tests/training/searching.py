"""A search whose trials are arithmetic, as a program: `python searching.py FOLDER TRIALS SECONDS_OF_A_TRIAL`.

Models are text files. The best settings are known: lora, of the largest size, at a rate of 1.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

from onetrunk.training.search import Search, Space
from onetrunk.training.trials import Outcome, Report, TrialSettings

SIZES = ["nano", "tiny", "small"]
METHODS = ["scratch", "pretrained", "lora"]
FIRST = [TrialSettings("wide", "nano"), TrialSettings("scratch", "nano"), TrialSettings("pretrained", "nano")]
SPACE = Space(SIZES, METHODS, FIRST)


def loss(settings: TrialSettings) -> float:
    """What a trial comes to."""
    if settings.method == "wide":
        return 1.5
    method = {"scratch": 0.4, "pretrained": 0.2, "lora": 0.0}[settings.method]
    return 1 + method + 0.2 * math.log(settings.rate) ** 2 + settings.dropout - 0.1 * SIZES.index(settings.size)


class Arithmetic:
    """Keeps its best model in `folder`; `work` is called with the seconds that a trial is given."""

    reserved = 0.0

    def __init__(self, folder: Path, work: Callable[[float], None], validations: int = 0) -> None:
        self.folder, self.work, self.validations = folder, work, validations
        self.made: list[TrialSettings] = []
        self.given: list[float] = []

    def run(self, settings: TrialSettings, seconds: float, report: Report) -> Outcome:
        self.made.append(settings)
        self.given.append(seconds)
        for part in range(self.validations):
            report(loss(settings) + 1 / (part + 1))
        self.work(seconds)
        return Outcome(loss(settings), 0.01, 7, settings)

    def keep(self, outcome: Outcome, number: int) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "model").write_text(json.dumps({"trial": number, "loss": outcome.score}))

    @property
    def kept(self) -> int | None:
        path = self.folder / "model"
        return json.loads(path.read_text())["trial"] if path.exists() else None


if __name__ == "__main__":
    place, trials, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    Search(place / "search", SPACE, Arithmetic(place, lambda given: time.sleep(seconds)), 600.0, trials).run()
