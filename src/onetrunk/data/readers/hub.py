"""Hugging Face datasets, and the hub's. Nothing is fetched unless the caller allowed it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from onetrunk.core.errors import DataError, MissingExtraError
from onetrunk.core.values import Mapped, Values
from onetrunk.data.readers.arrow import from_batches
from onetrunk.data.readers.common import Columns
from onetrunk.data.readers.folders import from_splits

_ROWS = 4096  # read at once


def is_dataset(source: Any) -> bool:
    """Is it a Hugging Face `Dataset`? Known by what it can do, so that the package need not be there."""
    return all(hasattr(source, name) for name in ("features", "column_names", "with_format", "num_rows"))


def is_stream(source: Any) -> bool:
    """Is it a Hugging Face `IterableDataset`?"""
    return hasattr(source, "num_rows") is False and all(
        hasattr(source, name) for name in ("features", "column_names", "with_format", "take")
    )


def from_stream(dataset: Any) -> Columns:
    """All rows of a Hugging Face `IterableDataset`, once. Raises DataError where they are not of one kind."""
    tables = iter(dataset.with_format("arrow").iter(_ROWS))
    first = next(tables, None)
    if first is None:
        return {}

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            for table in chain([first], tables):
                yield from table.cast(first.schema).to_batches()
        except (pa.ArrowException, ValueError) as error:
            raise DataError(f"The rows of the stream are not of one kind: {error}.") from None

    columns = from_batches(batches(), "the stream", list(first.schema.names))
    features = dataset.features or {}
    return {name: _as_featured(values, features.get(name)) for name, values in columns.items()}


def from_dataset(dataset: Any) -> Columns:
    """A Hugging Face `Dataset`: class numbers become names; images stay as stored (bytes or a path)."""

    def batches() -> Iterator[pa.RecordBatch]:
        for table in dataset.with_format("arrow").iter(_ROWS):
            yield from table.to_batches()

    columns = from_batches(batches(), "the dataset", list(dataset.column_names))
    return {name: _as_featured(values, dataset.features.get(name)) for name, values in columns.items()}


def _as_featured(values: Any, feature: Any) -> Any:
    if isinstance(values, Values):
        return Mapped(values, lambda block: _decoded(block, feature))
    return _decoded(values, feature)


def _decoded(values: list[Any], feature: Any) -> list[Any]:
    inner = getattr(feature, "feature", None)
    if inner is not None and any(hasattr(inner, name) for name in ("int2str", "feature")):
        return [None if v is None else _decoded(v, inner) for v in values]
    if hasattr(feature, "int2str"):  # -1 is how a ClassLabel says that the label is withheld
        return [None if v is None or v < 0 else feature.int2str(v) for v in values]
    if hasattr(feature, "decode_example"):
        return [Path(v["path"]) if v and v["bytes"] is None and v["path"] else v for v in values]
    return values


def from_hub(name: str, allow_network: bool) -> Columns:
    """`name[:config]` of the Hugging Face hub, out of the local cache unless the network is allowed."""
    try:
        import datasets
        import huggingface_hub
    except ImportError:
        raise MissingExtraError("datasets", "hub", f"Reading hf://{name}") from None
    repo, _, config = name.partition(":")
    switches = [(datasets.config, "HF_HUB_OFFLINE"), (huggingface_hub.constants, "HF_HUB_OFFLINE")]
    before = [getattr(module, key) for module, key in switches]
    try:
        for module, key in switches if not allow_network else []:
            setattr(module, key, True)
        loaded = datasets.load_dataset(repo, config or None)
    except (OSError, ValueError, RuntimeError) as error:
        hint = "" if allow_network else " Nothing was fetched: the network is used only with --allow-network."
        reason = str(error).partition("\n")[0]
        raise DataError(f"Cannot load the hub dataset {repo!r}: {reason}.{hint}") from None
    finally:
        for (module, key), value in zip(switches, before, strict=True):
            setattr(module, key, value)
    return from_splits({name: from_dataset(d) for name, d in loaded.items()})
