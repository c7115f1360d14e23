"""train: the whole way in one: inspect, split, pretrain, fine-tune, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from onetrunk.training.options import TrainingOptions
from onetrunk.verbs.shared import REQUIRED, takes

if TYPE_CHECKING:
    from onetrunk.inference.model_folder import Model


@takes(
    TrainingOptions,
    "ask given ignore types map split seed device allow_equal_rows max_bad allow_network "
    "out overwrite start size events budget config settings",
    ask=REQUIRED,
    helps={
        "out": "the model folder to make; the foundation model goes to OUT-foundation.",
        "start": "a foundation model folder to start from, instead of pretraining.",
        "budget": "train for about this long at most, like 10min.",
    },
)
def train(data: Any, options: TrainingOptions, *, quiet: bool = False) -> Model:
    """Train a model to predict columns of your table: pretrain, fine-tune, evaluate, report.

    Args:
        data: a file, folder, DataFrame, dataset, or hf://name.
        quiet: print nothing.

    Returns:
        The model, as `onetrunk.load(out)` gives it.
    """
    from onetrunk.training.jobs import run_training
    from onetrunk.verbs.show import Printer

    printer = Printer(quiet)
    model = run_training(data, options, printer)
    report = Path(options.out) / "evidence" / "report.html"
    printer.line("The report is ", (str(report), "bold"), ".")
    printer.line("Use the model: ", (f"onetrunk predict {options.out} NEW_ROWS.csv --out answers.csv", "bold"))
    return model
