"""export: writes a model for other programs, and checks its answers on the user's own rows first."""

from __future__ import annotations

from typing import Any

from onetrunk.training.options import TrainingOptions
from onetrunk.verbs.shared import takes


@takes(
    TrainingOptions,
    "ask given map allow_network allow_failed_gates missing separator out overwrite",
    out="exported",
    helps={
        "ask": "the column to answer; by default the model's task; \"embedding\" for the row's embedding alone.",
        "given": "the columns to answer from; by default the task's.",
        "out": "the folder to make.",
        "overwrite": "replace an existing folder.",
    },
)
def export(
    model: Any,
    data: Any,
    options: TrainingOptions,
    *,
    to: str,
    int8: bool = False,
    tolerance: float | None = None,
    rows: int = 200,
    quiet: bool = False,
) -> dict[str, Any]:
    """Write a model as a Hugging Face checkpoint, a GGUF file or an ONNX graph, and check that it answers the same.

    Args:
        model: a model folder.
        data: rows on which the answers are compared: a file, folder, DataFrame, dataset, or hf://name.
        to: huggingface (texts, or what sees pictures), gguf (for models that write texts), or onnx (classes, numbers,
            dates, texts, embeddings).
        int8: store weights in 8 bits (onnx only).
        tolerance: the largest relative difference allowed between numbers; by default 0.001, with int8 0.2.
        rows: check at most this many rows.
        quiet: print nothing.

    Returns:
        What was measured; it is also in export.json.

    Examples:
        onetrunk export model rows.csv --to onnx --out exported
        onetrunk export writer texts.txt --to huggingface --out checkpoint
    """
    from onetrunk.training.import_export import run_export
    from onetrunk.verbs.show import Printer

    return run_export(
        model, data, options.out, to, options, Printer(quiet),
        overwrite=options.overwrite, int8=int8, tolerance=tolerance, rows=rows,
        allow_failed_gates=options.allow_failed_gates,
    )  # fmt: skip
