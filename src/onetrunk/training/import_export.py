"""What the verbs import and export do: models of other programs to model folders, and back."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from onetrunk.core.encoder import Prompted
from onetrunk.core.errors import DataError, UsageError, unknown
from onetrunk.core.events import Listener, Note, Saved, ignore
from onetrunk.data.ledger import Ledger
from onetrunk.data.prepare import encode
from onetrunk.data.table import Table
from onetrunk.engine.runtime import Runtime
from onetrunk.evaluation.evidence_files import require_gates
from onetrunk.inference.model_folder import Model, load
from onetrunk.inference.tables import read_rows
from onetrunk.interop import huggingface, keras
from onetrunk.interop.huggingface import convert as pickles
from onetrunk.interop.huggingface import peft
from onetrunk.interop.parity import Parity
from onetrunk.storage import atomic
from onetrunk.storage.strict_json import write_json
from onetrunk.training.open_data import check_map, missing_words, renamed
from onetrunk.training.options import DataOptions
from onetrunk.training.output import check_free

FORMATS = ("huggingface", "gguf", "onnx")
EMBEDDING = "embedding"  # asked of a graph that answers no column


def run_import(
    source: str,
    out: str,
    *,
    overwrite: bool = False,
    tower: str | None = None,
    base: str | None = None,
    words: str | None = None,
    convert: bool = False,
    allow_network: bool = False,
    on_event: Listener = ignore,
) -> Model:
    """Makes a model folder of a Hugging Face folder (with `convert`, of pickled weights), of Keras weights, or of an
    adapter folder and its base."""
    weights = base is None and keras.is_weights(Path(source))
    if convert and (weights or base is not None):
        raise UsageError(f"--convert is for pickled weights of a Hugging Face folder; {source} is none: leave it out.")
    if words is not None and not weights:
        raise UsageError(f"--words is for Keras weights (.h5); {source} brings its own: leave it out.")
    ours = base is not None and not peft.is_adapter(Path(source))
    if tower is not None and (weights or ours):
        raise UsageError(f"--tower chooses one of CLIP's; {source} has none: leave it out.")
    check_free(out, overwrite)
    if base is not None and peft.is_adapter(Path(source)):
        folder = huggingface.locate(base, allow_network)
        if (folder / "onetrunk.json").exists():
            raise UsageError(
                f"{source} is an adapter of PEFT: --base names the Hugging Face folder that it was trained on, "
                f"{base} is a model folder of ours."
            )
        model = huggingface.read(folder, tower, adapter=Path(source))
        return _saved(model, out, overwrite, on_event)
    if base is not None:
        load(base, source, device="cpu").save(out, overwrite=overwrite)
        on_event(Saved(f"model, {base} with its adapter,", out))
        return load(out)
    if weights:
        model = keras.read(Path(source), None if words is None else Path(words))
    elif convert:
        folder = huggingface.locate(source, allow_network, pickled=True)
        with tempfile.TemporaryDirectory(prefix="onetrunk-") as place:
            pickles.convert(folder, Path(place))
            model = huggingface.read(folder, tower, converted=Path(place))
    else:
        model = huggingface.read(huggingface.locate(source, allow_network), tower)
    return _saved(model, out, overwrite, on_event)


def _saved(model: Model, out: str, overwrite: bool, on_event: Listener) -> Model:
    """Says what was read, and leaves it as a folder."""
    (stage,) = model.provenance["stages"]
    parameters = sum(p.numel() for p in model.network.parameters())
    on_event(Note(f"{stage['family']} with {', '.join(model.columns)}, {parameters:,} parameters."))
    if stage["left_out"]:
        on_event(Note(f"Left out: {', '.join(stage['left_out'])}."))
    model.save(out, overwrite=overwrite)
    on_event(Saved("model", out))
    return model


def run_export(
    model: Model | str,
    data: Any,
    out: str,
    to: str,
    options: DataOptions,
    on_event: Listener = ignore,
    *,
    overwrite: bool = False,
    int8: bool = False,
    tolerance: float | None = None,
    rows: int = 200,
    allow_failed_gates: bool = False,
) -> dict[str, Any]:
    """Writes a model in another format, if its answers for these rows stay the same, and it keeps its gates (unless
    they may fail). Returns what was measured, which is also in export.json. Raises EvidenceError, and leaves nothing
    behind, where that is not so."""
    if to not in FORMATS:
        raise unknown("format", to, FORMATS)
    if int8 and to != "onnx":
        raise UsageError(f"--int8 is for --to onnx; {to} keeps float32.")
    allowed = tolerance if tolerance is not None else 0.2 if int8 else 1e-3
    check_free(out, overwrite)
    opened = model if isinstance(model, Model) else load(model, device="cpu", allow_network=options.allow_network)
    overridden = require_gates(opened, "exported", allow_failed_gates, on_event)
    Runtime.open("cpu").place(opened.network)
    embeds = options.ask == [EMBEDDING]
    if embeds and to != "onnx":
        raise UsageError(f"--ask {EMBEDDING} is for --to onnx; {to} keeps a model that writes a column.")
    task = opened.task(None if embeds else options.ask, options.given)
    asked = None if embeds else task.ask[0]
    check_map(opened, options.map)
    words = missing_words(options, opened)
    table = renamed(read_rows(data, options.allow_network, words, options.separator), options.map)
    table = opened.as_learnt(table.take(np.arange(min(rows, len(table)))))
    needed = _needed(opened, table, to, asked, task.given)
    measured: dict[str, Any] = {
        "to": to,
        "ask": asked,
        "given": [name for name in needed if name != asked],
        "int8": int8,
        "failed_gates": [asdict(verdict) for verdict in overridden],
    }

    def write(folder: Path) -> None:
        parity = _written(opened, table, folder, to, asked, needed, int8)
        parity.check(allowed, f"The {to} export")
        measured.update(parity.as_json(allowed))
        write_json(folder / "export.json", measured)

    atomic.commit(Path(out), write, replace=overwrite)
    on_event(Saved("export", out))
    on_event(
        Note(
            f"{measured['equal_answers']:,} of {measured['rows']:,} answers are equal, numbers within "
            f"{measured['worst_difference']:.1g} of their size."
        )
    )
    return measured


def _needed(model: Model, table: Table, to: str, asked: str | None, given: list[str]) -> list[str]:
    """The columns that an export is checked on, in the trunk's order."""
    writes = to != "onnx" or (asked is not None and isinstance(model.encoder(asked), Prompted))
    wanted = [asked] if writes else given
    there = [name for name in model.columns if name in wanted and name in table.columns]
    needed = [name for name in there if any(value is not None for value in table[name])]
    if not needed:
        raise DataError(
            f"{table.source} has no value to check an export on; the columns it has: {', '.join(table.names)}."
        )
    return needed


def _written(
    model: Model, table: Table, folder: Path, to: str, asked: str | None, needed: list[str], int8: bool
) -> Parity:
    """Writes the files, reads them with the other program, and compares."""
    if to == "onnx":
        from onetrunk.interop import onnx, onnx_parity

        columns = [column for name, column in model.columns.items() if name in needed]
        store = encode(table, columns, model.network.encoders, Ledger())
        onnx.write(model, asked, needed, store, folder, int8)
        return onnx_parity.compare(model, asked, needed, table, folder)
    from onetrunk.interop import gguf
    from onetrunk.interop.huggingface import writer

    assert asked is not None, "a model that writes is asked for a column"
    form = gguf if to == "gguf" else writer
    form.write(model, asked, folder)
    return form.compare(model, asked, folder, [value for value in table[asked] if value is not None])
