"""What the trials found: how many checks there were of each kind, and those that did not hold."""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from bench.trials.attempts import Outcome


@dataclass
class Checks:
    """`seed` and a check's name say what was drawn for it: each can be repeated alone."""

    seed: int
    made: Counter[str] = field(default_factory=Counter)
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    worst: dict[str, float] = field(default_factory=dict)

    def dice(self, kind: str, name: str) -> random.Random:
        return random.Random(f"{self.seed}/{kind}/{name}")

    def add(self, kind: str, name: str, holds: bool, outcome: Outcome | str, detail: Any = "") -> None:
        """One check of this kind; `outcome` is how it ended, `detail` what was expected and found."""
        ended = outcome if isinstance(outcome, str) else outcome.kind
        self.made[kind] += 1
        self.outcomes.setdefault(kind, Counter())[ended] += 1
        if not holds:
            said = "" if isinstance(outcome, str) else outcome.said.strip()[-1500:]
            failure = {"kind": kind, "name": name, "outcome": ended, "detail": str(detail)[:500], "said": said}
            self.failures.append(failure)
            print(f"does not hold: {json.dumps(failure)}", file=sys.stderr, flush=True)

    def join(self, found: dict[str, Any]) -> None:
        """What another process found (`as_json`)."""
        self.made.update(found["made"])
        for kind, outcomes in found["outcomes"].items():
            self.outcomes.setdefault(kind, Counter()).update(outcomes)
        self.failures += found["failures"]
        self.worst |= {kind: max(worst, self.worst.get(kind, worst)) for kind, worst in found["worst"].items()}

    def as_json(self) -> dict[str, Any]:
        return {"made": self.made, "outcomes": self.outcomes, "failures": self.failures, "worst": self.worst}
