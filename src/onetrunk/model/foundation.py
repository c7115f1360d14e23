"""FoundationModel: columns embed, the trunk mixes, columns read out.

`encode` and `read` are the one path for training, answers, likelihood, exports, explanations and pooled states. The
model counts nothing, teaches nobody and swaps nothing: objectives, steps and sessions call it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, KeysView, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from onetrunk.core.batch import Batch, Read
from onetrunk.core.content import Role
from onetrunk.core.encoder import Column, Encoder
from onetrunk.core.errors import UsageError, unknown
from onetrunk.core.hidden import Hidden
from onetrunk.core.module import ColumnModule
from onetrunk.core.registry import column_types
from onetrunk.model.wide import WideReadout
from onetrunk.nn.convolution import Convolution
from onetrunk.nn.init import normal
from onetrunk.nn.trunk import build_trunk


class ColumnModules(nn.Module):
    """Columns' modules by key, which may be any text. In the tree of modules each is a number, in the order in which
    they came: names of modules are split at dots, and must be no attribute of a module."""

    def __init__(self) -> None:
        super().__init__()
        self._number_of: dict[str, str] = {}

    def __setitem__(self, key: str, module: ColumnModule[Any]) -> None:
        self.add_module(self._number_of.setdefault(key, str(len(self._number_of))), module)

    def __getitem__(self, key: str) -> ColumnModule[Any]:
        return cast(ColumnModule[Any], self._modules[self._number_of[key]])

    def __contains__(self, key: object) -> bool:
        return key in self._number_of

    def __iter__(self) -> Iterator[str]:
        return iter(self._number_of)

    def __len__(self) -> int:
        return len(self._number_of)

    def keys(self) -> KeysView[str]:
        return self._number_of.keys()

    def items(self) -> list[tuple[str, ColumnModule[Any]]]:
        return [(key, self[key]) for key in self]

    def parameter_name(self, key: str, name: str) -> str:
        """The name, in the model's state, of what the module itself calls `name`."""
        return f"column_modules.{self._number_of[key]}.{name}"


class FoundationModel(nn.Module):
    """One trunk for all columns. Encoders are fitted before; their modules are made here.

    `attention` says whether what is given sees all of itself ("bidirectional") or only what came before ("causal").
    """

    def __init__(
        self, trunk: dict[str, Any], columns: Sequence[Column], encoders: dict[str, Encoder], attention: str
    ) -> None:
        super().__init__()
        self.trunk = build_trunk(trunk)
        self.width: int = self.trunk.config.width
        self.given_causal = attention == "causal"
        self.columns: dict[str, Column] = {}
        self.column_modules = ColumnModules()
        # What tells a column, and a role in it, from every other: added to each of its positions.
        self.markers = nn.ParameterDict()
        self._marker_of: dict[str, str] = {}
        self.wide = nn.ModuleDict()  # by the number of the asked column, as markers
        for column in columns:
            self.add_column(column, encoders[column.key])

    def add_column(self, column: Column, encoder: Encoder, like: Sequence[str] = ()) -> None:
        """Makes a column known, with a new module (of a key not yet taken) or one it shares. Its markers begin as the
        mean of those of the columns `like`: a trained trunk knows what to gather for an answer of that kind."""
        if column.key not in self.column_modules:
            self.column_modules[column.key] = column_types.get(column.type).module(encoder, self.width)
        index = str(len(self.columns))
        self.columns[column.name] = column
        marker = normal(len(Role), self.width, std=0.05)
        if like:
            marker = torch.stack([self.marker(name).detach() for name in like]).mean(0)
        self.markers[index] = nn.Parameter(marker)
        self._marker_of[column.name] = index

    def extend_column(self, name: str, values: Sequence[Any]) -> int:
        """Adds the classes or words of these values that are new, to the encoder and to the module. What was learnt
        stays. Returns how many were added."""
        growth = self.encoder(name).extend(values)
        self.module(name).grow(growth)
        return len(growth)

    @property
    def encoders(self) -> dict[str, Encoder]:
        """By key, as the modules have them."""
        return {key: module.encoder for key, module in self.column_modules.items()}

    def encoder(self, column: str) -> Encoder:
        return self.module(column).encoder

    def module(self, column: str) -> ColumnModule[Any]:
        return self.column_modules[self.columns[column].key]

    def add_wide(self, column: str, readout: WideReadout) -> None:
        """From now on the column is read out beside what this says."""
        self.wide[self._marker_of[column]] = readout
        self.module(column).attach_wide(readout.shape.outputs)

    def wide_of(self, column: str) -> WideReadout | None:
        """The column's wide read-out, where it has one."""
        number = self._marker_of[column]
        return self.wide.get_submodule(number) if number in self.wide else None  # type: ignore[return-value]

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The trunk's equal parts, where it has any."""
        return self.trunk.blocks

    @property
    def convolutions(self) -> Sequence[nn.Module]:
        """Those of columns' stems, whose matrices stand between embeddings and read-outs as the trunk's do."""
        return [module for module in self.modules() if isinstance(module, Convolution)]

    def marker(self, column: str) -> Tensor:
        """[roles, D]"""
        return self.markers[self._marker_of[column]]

    # -- whole batches -----------------------------------------------------------------------------------------------
    def embed(self, column: str, content: dict[str, Tensor], role_n: Tensor) -> Tensor:
        """Content of one column to [n, D]. `role_n` int64 [n], or [1] where all have one role."""
        return self.module(column).embed(content) + nn.functional.embedding(role_n, self.marker(column))

    def encode(
        self,
        batch: Batch,
        embeddings: Mapping[str, Tensor] | None = None,
        capture: Collection[str] = (),
        cache: Any = None,
    ) -> Hidden:
        """What the trunk makes of a batch.

        Args:
            batch: packed documents.
            embeddings: by column, [n, D] in place of the column's own (`embed` of its content, in the batch's order):
                for gradients with respect to them, or without a part of them. A column that the batch lacks may have
                [0, D].
            capture: names of intermediates to keep: `embedding.COLUMN` [n, D], as it enters; `block.I` [B, T, D], as it
                leaves the trunk's block I. What is not asked for costs nothing.
            cache: of `start_cache`, to be filled, so that `extend` goes on from the batch. Every document then has a
                sequence of its own, and all of it is given.

        Raises UsageError for an intermediate or a column that the batch does not have.
        """
        embedded = self._embedded(batch, embeddings or {})
        captured = self._captured(embedded, capture, cached=cache is not None)
        x_BTD = self._laid_out(list(embedded.values()), batch)
        layout = batch.layout
        if cache is not None:
            h, cache = self.extend(x_BTD, layout.pos_BT, layout.doc_BT >= 0, cache, self.given_causal, keep=True)
            return Hidden(h, batch, captured, cache)
        return Hidden(self.trunk(x_BTD, layout, _watch(capture, captured)), batch, captured)

    def read(self, hidden: Hidden, column: str, at: Read | None = None) -> Tensor:
        """What the column's read-out is told at r positions: [r, D]; where the column is `pooled`, [r, 2 D], joined
        with the mean of the given states. Its module takes that: `loss(h, targets)`, or `step` reshaped to [n, t, ...].

        `at` says which positions; by default those at which the batch reads the column. Raises UsageError where it
        reads it never, or for several objectives.
        """
        if at is None:
            at = _only_read(hidden.batch, column)
        states = [hidden.h_ND[at.flat_r]]
        if self.module(column).pooled:
            states.append(hidden.pooled_MD[at.doc_r])
        if self.wide_of(column) is not None:
            states.append(hidden.batch.wide[column][at.doc_r].to(states[0].dtype))
        return torch.cat(states, dim=1) if len(states) > 1 else states[0]

    # -- decoding ----------------------------------------------------------------------------------------------------
    def start_cache(self, n: int) -> Any:
        """The trunk's cache for n documents of which nothing was seen."""
        return self.trunk.start_cache(n, next(self.parameters()).device)

    def start_slots(self, slots: int, positions: int, dtype: torch.dtype) -> Any:
        """A cache for as many documents of so many positions each, all of it allocated now."""
        return self.trunk.start_slots(slots, positions, next(self.parameters()).device, dtype)

    def extend(
        self, x_NTD: Tensor, pos_NT: Tensor, valid_NT: Tensor, cache: Any, causal: bool, keep: bool | Tensor
    ) -> tuple[Tensor, Any]:
        """States [N, T, D] of new positions of N documents, which see what their cache holds and each other (earlier
        ones only, if `causal`), and the cache, with them if `keep`: of some documents, bool [N], in one of slots. Where
        `valid_NT` is false there is only padding, which comes last."""
        return self.trunk.extend(x_NTD, pos_NT, valid_NT, cache, causal=causal, keep=keep)

    def with_pooled(self, column: str, h_NTD: Tensor, pooled_ND: Tensor) -> Tensor:
        """As `read`, of states that `extend` returned: [N, T, D] or, where the column is `pooled`, [N, T, 2 D]; with
        what a wide read-out says, which then stands at the end of `pooled_ND`, as many more."""
        if not self.module(column).pooled:
            return h_NTD
        return torch.cat([h_NTD, pooled_ND[:, None].expand(-1, h_NTD.shape[1], -1)], dim=-1)

    # -- parts of encode ---------------------------------------------------------------------------------------------
    def _embedded(self, batch: Batch, replaced: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """[n, D] of every column, in the batch's order; what the batch lacks comes last."""
        embedded = {
            name: replaced[name] if name in replaced else self.embed(name, embed.content, embed.role_n)
            for name, embed in batch.embeds.items()
        }
        for name, embeddings in replaced.items():
            n = batch.embeds[name].flat_n.shape[0] if name in batch.embeds else 0  # not len(): exports would fix it
            if embeddings.shape != (n, self.width):
                raise UsageError(
                    f"The embeddings of {name!r} must be [{n}, {self.width}], as the batch has positions of it; found "
                    f"{list(embeddings.shape)}."
                )
            embedded[name] = embeddings
        return embedded

    def _laid_out(self, embedded: list[Tensor], batch: Batch) -> Tensor:
        """x_BTD: every column's embeddings where they stand, zeros where there is padding. One gather does it."""
        if not embedded:  # of documents of empty texts alone
            return torch.zeros(*batch.layout.doc_BT.shape, self.width, device=batch.layout.doc_BT.device)
        if batch.gather_N is None:
            x = torch.cat(embedded) if len(embedded) > 1 else embedded[0]
        else:
            padding = embedded[0].new_zeros(1, self.width)
            x = torch.cat([*(each.to(padding.dtype) for each in embedded), padding])[batch.gather_N]
        return x.view(*batch.layout.doc_BT.shape, -1)

    def _captured(self, embedded: Mapping[str, Tensor], capture: Collection[str], cached: bool) -> dict[str, Tensor]:
        """The embeddings that are asked for, once every name is known."""
        if not capture:
            return {}
        known = {f"embedding.{name}": each for name, each in embedded.items()}
        blocks = [] if cached else [f"block.{i}" for i in range(len(self.trunk.layers))]
        for name in capture:
            if name not in known and name not in blocks:
                raise unknown("intermediate", name, [*known, *blocks])
        return {name: known[name] for name in capture if name in known}


def _watch(capture: Collection[str], captured: dict[str, Tensor]) -> Callable[[int, Tensor], None] | None:
    """Keeps what leaves those blocks that are asked for."""
    wanted = {name for name in capture if name.startswith("block.")}
    if not wanted:
        return None

    def watch(block: int, x_BTD: Tensor) -> None:
        if (name := f"block.{block}") in wanted:
            captured[name] = x_BTD

    return watch


def _only_read(batch: Batch, column: str) -> Read:
    reads = [reads[column] for reads in batch.reads.values() if column in reads]
    if len(reads) != 1:
        raise UsageError(f"The batch must read the column {column!r} for one objective; it does for {len(reads)}.")
    return reads[0]
