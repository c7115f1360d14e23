"""export: a model for other programs, checked on a person's own rows before anything is left behind."""

from __future__ import annotations

from typing import Any

from onetrunk.training.options import TrainingOptions
from onetrunk.verbs.shared import takes


@takes(
    TrainingOptions,
    "ask given map allow_network out overwrite",
    out="exported",
    helps={
        "ask": 'the column that is answered; by default the folder\'s task; "embedding" answers none.',
        "given": "columns to answer from; by default the task's.",
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
    """Write a model folder as a Hugging Face checkpoint, a GGUF file or an ONNX graph, if its answers stay the same.

    Args:
        model: a model folder.
        data: rows to check it on: a file, folder, DataFrame, dataset, or hf://name.
        to: huggingface or gguf (a text, written from nothing), or onnx (a class, number, date or text; embeddings).
        int8: weights in 8 bits (onnx).
        tolerance: largest difference of a number, relative to their size; by default 0.001, and 0.2 with int8.
        rows: how many rows to check at most.
        quiet: print nothing.

    Returns:
        What was measured; it is also in export.json.
    """
    from onetrunk.training.exchange import run_export
    from onetrunk.verbs.show import Printer

    return run_export(
        model, data, options.out, to, options, Printer(quiet),
        overwrite=options.overwrite, int8=int8, tolerance=tolerance, rows=rows,
    )  # fmt: skip
