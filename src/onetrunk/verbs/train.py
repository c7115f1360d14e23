"""train: everything in one command, from a table to a model with its evidence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from onetrunk.training.options import TrainingOptions
from onetrunk.verbs.shared import REQUIRED, takes, tracking

if TYPE_CHECKING:
    from onetrunk.inference.model_folder import Model


@takes(
    TrainingOptions,
    "ask given ignore types map split seed device allow_equal_rows max_bad allow_network missing lang separator "
    "out overwrite start size mixture events budget max_memory track config settings",
    ask=REQUIRED,
    helps={
        "out": "the model folder to make; if it pretrains, the foundation model goes to OUT-foundation.",
        "start": "the foundation model folder to start from: it is fine-tuned, and nothing is pretrained.",
        "budget": "train for at most about this long, like 10min.",
    },
)
def train(data: Any, options: TrainingOptions, *, quiet: bool = False) -> Model:
    """Train a model to predict columns of your table, and measure it on rows that it has not seen.

    A linear model and boosted trees come first. Where nearly every row has its answer, the trunk is trained beside
    them. Otherwise a model is pretrained on all rows and fine-tuned, and kept if it is better than they are.

    Args:
        data: a file, folder, DataFrame, dataset, or hf://name.
        quiet: print nothing.

    Returns:
        The model, as `onetrunk.load(out)` gives it.

    Examples:
        onetrunk train data.csv --ask label --out model
        onetrunk train photos/ --ask label --out model --budget 10min
    """
    from onetrunk.training.train import run_training
    from onetrunk.verbs.show import Printer

    printer = Printer(quiet)
    with tracking(printer, options) as on_event:
        model = run_training(data, options, on_event)
    report = Path(options.out) / "evidence" / "report.html"
    printer.line("The report is ", (str(report), "bold"), ".")
    printer.line("Use the model: ", (f"onetrunk predict {options.out} NEW_ROWS.csv --out answers.csv", "bold"))
    return model
