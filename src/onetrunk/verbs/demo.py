"""demo: the main job on real data that comes with scikit-learn: handwritten digits, 50 of them labelled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

DRAWN_EACH = 20


def demo(
    *,
    out: str = "demo",
    seed: int = 0,
    short: bool = False,
    device: str = "auto",
    overwrite: bool = True,
    quiet: bool = False,
) -> Any:
    """Run the whole life of a model on handwritten digits, in minutes: one model that reads, names and draws them.

    Args:
        out: the folder for the model, its report and the drawn digits.
        seed: of everything random, the 50 labelled rows included.
        short: a short form that shows every step and no good figures.
        device: cpu, cuda, cuda:N or mps; auto is CUDA where there is one, else the CPU.
        overwrite: replace what an earlier demo left.
        quiet: print nothing.

    Returns:
        The figures, as a dict.
    """
    import copy

    from rich.table import Table as Shown

    from onetrunk.core.folder import write_json
    from onetrunk.data.inspect import inspect
    from onetrunk.evaluation.evidence_folder import evaluate_model
    from onetrunk.inference.model_folder import Task
    from onetrunk.training import digits
    from onetrunk.training.finetune import finetune_model
    from onetrunk.training.output import check_free
    from onetrunk.training.pretrain import pretrain_model
    from onetrunk.training.stage import new_model
    from onetrunk.verbs.show import console_for

    console = console_for(quiet)
    place = Path(out)
    run = digits.config(short, device)
    data = digits.data(seed, run)
    for name in ("model-foundation", "model", "scratch"):
        check_free(place / name, overwrite)
    console.rule("1 · What is in the data")
    if not quiet:
        inspect(data.table.take(data.split.train), data.types, data.ask).show(console)
    test = data.part("test")

    console.rule("2 · Pretrain one model on all columns, 50 rows labelled")
    model = pretrain_model(data, run, place / "model-foundation", seed, None, None, 0.01, console)
    model.save(place / "model-foundation", overwrite=True)

    console.rule("3 · Ask it")
    results = digits.rivals(data, test)
    results["straight after pretraining"] = digits.right(model, test, "label")
    word = digits.right(model, test, "word")
    drawn, sheet = digits.draw(model, data, DRAWN_EACH, seed)
    sheet.save(place / "drawn.png")
    console.print(f"The digit's name, written: {word.mean():.1%} right. Drawn digits that an SVM trained on real ones "
                  f"recognises: {drawn.mean():.1%} ({place / 'drawn.png'}).", highlight=False)  # fmt: skip

    console.rule("4 · Fine-tune on the 50 labels, and the same from nothing")
    asked = digits.only(data, "label")
    tuned, decision = finetune_model(asked, run, place / "model", seed, copy.deepcopy(model), True, 0.01, console)
    tuned.provenance["decision"] = decision
    tuned.save(place / "model", overwrite=True)
    results["fine-tuned"] = digits.right(tuned, test, "label")
    scratch = new_model(asked, run, seed)
    scratch, _ = finetune_model(asked, run, place / "scratch", seed, scratch, False, 0.01, console)
    results["same trunk from scratch"] = digits.right(scratch, test, "label")

    console.rule("5 · Evidence")
    model.tasks = [Task(["image"], ["word"]), Task(["label"], ["image"])]
    evaluate_model(model, test, data.part("train"), place / "model-foundation", seed, console)
    evaluate_model(tuned, test, data.part("train"), place / "model", seed, console)
    figures = digits.summary(results, {"word": word, "drawn": drawn})
    table = Shown(title=f"Label of {len(test)} held-out digits, 50 labelled rows")
    table.add_column("model")
    table.add_column("accuracy", justify="right")
    table.add_column("95 % interval", justify="right")
    for name, found in figures["label"].items():
        bold = "[bold]" if "training" in name or "tuned" in name else ""
        low, high = found["interval"]
        table.add_row(f"{bold}{name}", f"{found['accuracy']:.3f}", f"{low:.3f} to {high:.3f}")
    console.print(table)
    write_json(place / "figures.json", figures)
    console.print(
        f"Drawn digits: [bold]{place / 'drawn.png'}[/]\n"
        f"Report: [bold]{place / 'model' / 'evidence' / 'report.html'}[/]\n"
        f"Model folder: [bold]{place / 'model'}[/]\n\n"
        "Now with your own table (`.venv/bin/` before it, if you ran make):\n"
        "  onetrunk inspect data.csv\n"
        "  onetrunk train data.csv --ask COLUMN --out model\n"
        "  onetrunk predict model new_rows.csv --out answers.csv\n"
        f"  onetrunk generate {place / 'model-foundation'} --ask image --data '{{\"label\": 7}}' --out sevens.csv",
        highlight=False,
    )
    return figures
