"""What a run costs, kept beside the model that it makes and told at its end."""

from __future__ import annotations

import time

from onetrunk.core.events import CostCounted, Listener
from onetrunk.engine.cost import Cost, Meter
from onetrunk.engine.runtime import find_device
from onetrunk.inference.model_folder import Model
from onetrunk.training.context import RUNS
from onetrunk.training.recipe import Recipe


class RunCost:
    """Counts from when it is made. Of a run that was stopped and goes on, what came before is not counted."""

    def __init__(self, verb: str, recipe: Recipe) -> None:
        self.verb = verb
        self._began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._meter = Meter(recipe.cost, str(find_device(recipe.device)))

    def keep(self, model: Model) -> Cost:
        """Writes what the run has cost so far in the model's provenance, after earlier runs' costs."""
        cost = self._meter.so_far()
        earlier = [run for run in model.provenance.get(RUNS, []) if run["began"] != self._began]
        model.provenance[RUNS] = [*earlier, {"verb": self.verb, "began": self._began, **cost.as_json()}]
        return cost

    def tell(self, on_event: Listener) -> None:
        """At the end of the run."""
        cost = self._meter.so_far()
        on_event(CostCounted(self.verb, cost.seconds, cost.wh, cost.co2_g, cost.peak_bytes, cost.measured))
