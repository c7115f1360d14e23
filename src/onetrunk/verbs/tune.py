"""tune: searches for the best model of a table within a time."""

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
    "out overwrite start size events budget max_memory track config settings",
    ask=REQUIRED,
    budget="10min",
    helps={
        "start": "the foundation model folder that every trial starts from; by default some pretrain their own.",
        "size": "the one size to search at; by default the smallest, and then larger ones.",
        "max_memory": "leave out sizes that would need more memory than this, like 8GB.",
        "budget": "end after this long, the report included, like 10min.",
    },
)
def tune(
    data: Any,
    options: TrainingOptions,
    *,
    trials: int | None = None,
    quiet: bool = False,
) -> Model:
    """Search for the best model: size, pretraining, freezing, LoRA, learning rate and regularisation.

    Models are compared on the validation rows, by log loss or squared error. A killed search goes on with the same
    command, and several processes that are given the same command share their trials.

    Args:
        data: a file, folder, DataFrame, dataset, or hf://name.
        trials: end after so many trials, if the budget allows them.
        quiet: print nothing.

    Returns:
        The best model, as `onetrunk.load(out)` gives it.

    Examples:
        onetrunk tune data.csv --ask label --out best --budget 30min
    """
    from onetrunk.training.tune import run_tuning
    from onetrunk.verbs.show import Printer

    printer = Printer(quiet)
    with tracking(printer, options) as on_event:
        model = run_tuning(data, options, on_event, trials=trials)
    report = Path(options.out) / "evidence" / "report.html"
    printer.line("The report, with all trials, is ", (str(report), "bold"), ".")
    return model
