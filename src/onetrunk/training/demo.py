"""The whole life of a model on handwritten digits, 50 of them labelled: one model that reads, names and draws them."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onetrunk.core.events import Event, Heading, Listener, Note, ignore
from onetrunk.data.inspection import Inspection, inspect
from onetrunk.evaluation.evidence_folder import evaluate_model
from onetrunk.inference.model_folder import Task
from onetrunk.storage.locks import locks_end
from onetrunk.storage.strict_json import write_json
from onetrunk.training import digits
from onetrunk.training.context import RunContext
from onetrunk.training.finetune import finetune_model
from onetrunk.training.output import Output
from onetrunk.training.pretrain import pretrain_model
from onetrunk.training.stage import new_model

DRAWN_EACH = 20


@dataclass(frozen=True)
class Inspected(Event):
    """A table has been looked at."""

    inspection: Inspection

    def as_json(self) -> dict[str, Any]:
        return {"event": "Inspected", "inspection": self.inspection.as_json()}


@locks_end()
def run_demo(
    out: Path,
    seed: int = 0,
    short: bool = False,
    device: str = "auto",
    overwrite: bool = True,
    on_event: Listener = ignore,
) -> dict[str, Any]:
    """Leaves model folders, reports, drawn.png and figures.json in `out`. Returns the figures: accuracy and interval of
    each model, and of what it names and draws."""
    recipe = digits.recipe(short, device)
    data = digits.data(seed, recipe)
    outputs = {name: Output(out / name, overwrite) for name in ("model-foundation", "model", "scratch")}
    context = RunContext(recipe, out / "model-foundation", seed, on_event=on_event, output=outputs["model-foundation"])

    def into(name: str) -> RunContext:
        return context.but(out=out / name, output=outputs[name])

    on_event(Heading("1 · What is in the data"))
    on_event(Inspected(inspect(data.table.take(data.split.train), data.types, data.ask)))
    test = data.rows("test")

    on_event(Heading("2 · Pretrain one model on all columns, 50 rows labelled"))
    model = pretrain_model(data, context)
    model.save(out / "model-foundation", overwrite=True)

    on_event(Heading("3 · Ask it"))
    results = digits.baselines(data, test)
    results["straight after pretraining"] = digits.right(model, test, "label")
    word = digits.right(model, test, "word")
    drawn, sheet = digits.draw(model, data, DRAWN_EACH, seed)
    sheet.save(out / "drawn.png")
    on_event(
        Note(
            f"It writes the digit's name right in {word.mean():.1%} of the test rows. An SVM trained on real digits "
            f"recognises {drawn.mean():.1%} of those that it draws ({out / 'drawn.png'})."
        )
    )

    on_event(Heading("4 · Fine-tune on the 50 labels, and the same from nothing"))
    asked = digits.only(data, "label")
    tuned = finetune_model(asked, into("model"), copy.deepcopy(model), pretrained=True)
    tuned.model.provenance["decision"] = tuned.choice.as_json()
    tuned.model.save(out / "model", overwrite=True)
    results["fine-tuned"] = digits.right(tuned.model, test, "label")
    scratch = new_model(asked, recipe, seed)
    scratch = finetune_model(asked, into("scratch"), scratch, pretrained=False).model
    results["same trunk from scratch"] = digits.right(scratch, test, "label")

    on_event(Heading("5 · Evidence"))
    model.tasks = [Task(["image"], ["word"]), Task(["label"], ["image"])]
    for one, folder in ((model, out / "model-foundation"), (tuned.model, out / "model")):
        evaluate_model(one, test, data.rows("train"), folder, seed=seed, on_event=on_event)
    figures = digits.summary(results, {"word": word, "drawn": drawn})
    write_json(out / "figures.json", figures)
    return figures
