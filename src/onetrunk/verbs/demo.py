"""demo: the main job on real data that comes with scikit-learn: handwritten digits, 50 of them labelled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onetrunk.training.options import TrainingOptions
from onetrunk.verbs.shared import takes


@takes(
    TrainingOptions,
    "seed device out overwrite",
    out="demo",
    overwrite=True,
    helps={
        "out": "the folder for the model, its report and the drawn digits.",
        "seed": "the seed of all random numbers, the choice of the 50 labelled rows included.",
        "overwrite": "replace what an earlier demo left.",
    },
)
def demo(options: TrainingOptions, *, short: bool = False, quiet: bool = False) -> dict[str, Any]:
    """Run the whole life of a model on handwritten digits, in minutes: one model that reads, names and draws them.

    Args:
        short: a short run that shows every step, with poor figures.
        quiet: print nothing.

    Returns:
        The figures, as a dict.

    Examples:
        onetrunk demo --short --out demo
    """
    from rich.table import Table

    from onetrunk.core.events import Event
    from onetrunk.training.demo import Inspected, run_demo
    from onetrunk.verbs.show import Printer

    printer = Printer(quiet)

    def show(event: Event) -> None:
        if isinstance(event, Inspected):
            event.inspection.show(printer.console)
        else:
            printer(event)

    folder = Path(options.out)
    figures = run_demo(folder, options.seed, short, options.device or "auto", options.overwrite, show)
    table = Table(title="Label of the held-out digits, 50 labelled rows")
    table.add_column("model")
    table.add_column("accuracy", justify="right")
    table.add_column("95 % interval", justify="right")
    for name, figure in figures["label"].items():
        bold = "[bold]" if "training" in name or "tuned" in name else ""
        low, high = figure["interval"]
        table.add_row(f"{bold}{name}", f"{figure['accuracy']:.3f}", f"{low:.3f} to {high:.3f}")
    printer.console.print(table)
    for what, path in (
        ("drawn digits are", "drawn.png"),
        ("report is", "model/evidence/report.html"),
        ("model folder is", "model"),
    ):
        printer.line(f"The {what} in ", (str(folder / path), "bold"), ".")
    for line in (
        "",
        "Now with your own table (`.venv/bin/` before it, if you ran make):",
        "  onetrunk inspect data.csv",
        "  onetrunk train data.csv --ask COLUMN --out model",
        "  onetrunk predict model new_rows.csv --out answers.csv",
        f"  onetrunk generate {folder / 'model-foundation'} --ask image --data '{{\"label\": 7}}' --out sevens.csv",
    ):
        printer.line(line)
    return figures
