"""What simple models see of rows: a linear model other features than trees. NumPy and SciPy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from scipy import sparse

LINEAR, WORDS, CHARACTERS, TREES, KEYS = "linear", "words", "characters", "trees", "keys"

_MAX_DENSE_FEATURES = 2100  # of a sparse block that trees see as it is; of wider ones they see few components


@dataclass(frozen=True)
class Views:
    """Features of n rows by what looks at them."""

    linear: Any  # [n, L] sparse or dense: numbers and classes, as weights can be given to them
    texts: dict[str, sparse.csr_matrix]  # by "words" and "characters": a linear model takes either or both
    trees: np.ndarray  # float64 [n, T], NaN where a value is missing
    wide: tuple[sparse.csr_matrix, ...]  # each column's texts and other many features: trees see a few components
    keys: np.ndarray  # object [n, K]: values whose means of what is asked are worth to know

    @property
    def count(self) -> int:
        return int(self.trees.shape[0])

    def take(self, rows: np.ndarray) -> Views:
        """These rows alone."""
        texts = {name: block[rows] for name, block in self.texts.items()}
        wide = tuple(block[rows] for block in self.wide)
        return Views(self.linear[rows], texts, self.trees[rows], wide, self.keys[rows])

    def matrix(self, texts: Sequence[str] | None = None) -> Any:
        """All that a linear model sees, [n, F]; of the texts those views only."""
        chosen = [block for name, block in self.texts.items() if texts is None or name in texts]
        blocks = ([self.linear] if self.linear.shape[1] or not chosen else []) + chosen
        return beside(blocks)

    @classmethod
    def of(cls, x: Any) -> Views:
        """Views as they are; a matrix is seen by all alike."""
        return x if isinstance(x, cls) else cls.joined([{LINEAR: x}], x.shape[0])

    @classmethod
    def joined(cls, columns: Sequence[Mapping[str, Any]], count: int) -> Views:
        """The blocks [n, .] of several columns, each by the names above."""
        from scipy import sparse

        linear = [blocks[LINEAR] for blocks in columns if LINEAR in blocks]
        texts = {
            name: sparse.hstack([blocks[name] for blocks in columns if name in blocks], format="csr")
            for name in (WORDS, CHARACTERS)
            if any(name in blocks for blocks in columns)
        }
        dense, wide = [], []
        for blocks in columns:
            grams = [blocks[name] for name in (WORDS, CHARACTERS) if name in blocks]
            wide += [sparse.hstack(grams, format="csr")] if grams else []
            if TREES in blocks:
                dense.append(np.asarray(blocks[TREES], dtype=np.float64))
            elif KEYS not in blocks and LINEAR in blocks:  # no view of their own
                block = blocks[LINEAR]
                if not sparse.issparse(block):
                    dense.append(np.asarray(block, dtype=np.float64))
                elif block.shape[1] <= _MAX_DENSE_FEATURES:
                    dense.append(block.toarray())
                else:
                    wide.append(block)
        keys = [np.asarray(blocks[KEYS], dtype=object).reshape(count, -1) for blocks in columns if KEYS in blocks]
        return cls(
            beside(linear) if linear else np.zeros((count, 0)),
            texts,
            np.hstack(dense) if dense else np.zeros((count, 0)),
            tuple(block for block in wide if block.shape[1]),
            np.hstack(keys) if keys else np.zeros((count, 0), dtype=object),
        )


def as_keys() -> Any:
    """A transformer from one text a row to a column of keys."""
    from sklearn.preprocessing import FunctionTransformer

    return FunctionTransformer(lambda names: np.array(names, dtype=object).reshape(-1, 1))


def beside(blocks: Sequence[Any]) -> Any:
    """Matrices side by side; sparse as soon as one is."""
    from scipy import sparse

    if any(sparse.issparse(block) for block in blocks):
        return sparse.hstack(blocks, format="csr")
    return np.hstack(blocks)
