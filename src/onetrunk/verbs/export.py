"""export: a model for other programs, checked on a person's own rows before anything is left behind."""

from __future__ import annotations

from typing import Any


def export(
    model: Any,
    data: Any,
    *,
    to: str,
    out: str = "exported",
    ask: str | None = None,
    given: list[str] | None = None,
    map: dict[str, str] | None = None,
    int8: bool = False,
    tolerance: float | None = None,
    rows: int = 200,
    allow_network: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Write a model folder as a Hugging Face checkpoint, a GGUF file or an ONNX graph, if its answers stay the same.

    Args:
        model: a model folder.
        data: rows to check it on: a file, folder, DataFrame, dataset, or hf://name.
        to: huggingface or gguf (a text, written from nothing), or onnx (a class, number, date or text; embeddings).
        out: the folder to make.
        ask: the column that is answered; by default the folder's task; "embedding" answers none.
        given: columns to answer from; by default the task's.
        map: model_column=table_column, where names differ.
        int8: weights in 8 bits (onnx).
        tolerance: largest difference of a number, relative to their size; by default 0.001, and 0.2 with int8.
        rows: how many rows to check at most.
        allow_network: allow hf:// names to use the network.
        overwrite: replace an existing folder.
        quiet: print nothing.

    Returns:
        What was measured; it is also in export.json.
    """
    from pathlib import Path

    import numpy as np

    from onetrunk.core import folder as files
    from onetrunk.core.errors import DataError, UsageError, unknown
    from onetrunk.data.ledger import Ledger
    from onetrunk.data.prepare import encode
    from onetrunk.engine.runtime import Runtime
    from onetrunk.inference.model_folder import Model, load
    from onetrunk.inference.tables import read_rows
    from onetrunk.training.open_data import renamed
    from onetrunk.training.output import check_free
    from onetrunk.verbs.show import Printer

    forms = ("huggingface", "gguf", "onnx")
    if to not in forms:
        raise unknown("format", to, forms)
    if int8 and to != "onnx":
        raise UsageError(f"--int8 is for --to onnx; {to} keeps float32.")
    allowed = tolerance if tolerance is not None else 0.2 if int8 else 1e-3
    printer = Printer(quiet)
    check_free(out, overwrite)
    opened = model if isinstance(model, Model) else load(model, device="cpu")
    Runtime.open("cpu").place(opened.network)
    task = opened.task(None if ask in (None, "embedding") else [ask], given)
    asked = None if ask == "embedding" else task.ask[0]
    table = renamed(read_rows(data, allow_network), map)
    table = table.take(np.arange(min(rows, len(table))))
    writes = to != "onnx" or (asked is not None and opened.codec(asked).continues)
    wanted = [asked] if writes else task.given
    needed = [name for name in opened.columns if name in wanted and name in table.columns]  # the trunk's order
    needed = [name for name in needed if any(value is not None for value in table[name])]
    if not needed:
        raise DataError(
            f"{table.source} has no value to check an export on; the columns it has: {', '.join(table.names)}."
        )

    measured: dict[str, Any] = {
        "to": to,
        "ask": asked,
        "given": [name for name in needed if name != asked],
        "int8": int8,
    }

    def write(place: Path) -> None:
        if to != "onnx":
            from onetrunk.interop import gguf, qwen3

            form = gguf if to == "gguf" else qwen3
            form.write(opened, asked, place)
            parity = form.compare(opened, asked, place, [value for value in table[asked] if value is not None])
        else:
            from onetrunk.interop import onnx

            columns = [column for name, column in opened.columns.items() if name in needed]
            store = encode(table, columns, opened.network.codecs, Ledger())
            parity = onnx.export(opened, asked, needed, store, place, int8)
        parity.check(allowed, f"The {to} export")
        measured.update(parity.as_json(allowed))
        files.write_json(place / "export.json", measured)

    files.commit(Path(out), write, replace=overwrite)
    printer.line(
        "The export is in ",
        (out, "bold"),
        f": {measured['equal_answers']:,} of {measured['rows']:,} answers equal, "
        f"numbers within {measured['worst_difference']:.1g} of their size.",
    )
    return measured
