"""SMILES as tokens: atoms, bonds, branches and rings.

With RDKit every value is checked and brought to one spelling, and given molecules are spelt in another order at every
step of training. Without it SMILES are read as they are spelt.
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from onetrunk.columns.families.tokens.encoder import MANY_VALUES, TokenEncoder, TokenOptions
from onetrunk.columns.families.tokens.special_tokens import SPECIALS, UNKNOWN
from onetrunk.columns.molecule import chemistry
from onetrunk.core import rng
from onetrunk.core.content import Content, Role, Segment
from onetrunk.core.encoder import Growth, SegmentContext
from onetrunk.core.errors import BadValueError, DataError, MissingExtraError
from onetrunk.core.values import all_are, in_memory
from onetrunk.core.wide import Sparse, Wide, WideFeatures, numbers

TOKEN = re.compile(r"\[[^\[\]\s]+\]|Br|Cl|[BCNOPSFI]|[bcnops]|%\d{2}|[0-9]|[-=#$:/\\.()+~@?>*]")  # arXiv 1711.04810
_ATOM = re.compile(r"[A-Za-z]")
_STRUCTURE = re.compile(r"[\[\]()=#\d]")
_ENOUGH = 0.95  # share of values that are SMILES, for a column to be recognised
_RESPELT = 10_000  # other spellings whose tokens are learnt, some of each molecule where there are few
_RUN, _MANY_TOKENS = 3, 1 << 20  # tokens that simple models see together; more than there are tokens
_NO_PAIRS = np.zeros((2, 0), dtype=np.uint64)
_LONGER = 1.5  # another spelling has at most so many times the tokens


class MoleculeEncoder(TokenEncoder, Wide):
    """One token an atom, a bond or a bracket. Two spellings of a molecule are one value."""

    type_name = "molecule"
    too_long = "molecules"
    unknown_tokens = "unknown atoms"

    class Options(TokenOptions):
        length: int = Field(128, ge=1, le=1_000_000)  # tokens of one molecule that the trunk sees
        respell: float = Field(1.0, ge=0, le=1)  # share of given ones spelt in another order (arXiv 1703.07076)

    options: Options
    tokens: list[str]
    ids: dict[str, int]
    canonical: bool  # were the training rows brought to one spelling each?

    # -- values ------------------------------------------------------------------------------------------------------
    @classmethod
    def recognise(cls, values: Sequence[Any]) -> float:
        if not values or not all_are(values, str):
            return 0.0
        spelt: list[str] = []
        for i, value in enumerate(values):
            if _ATOM.search(value) and "".join(TOKEN.findall(value)) == value.strip():
                spelt.append(value)
            elif len(spelt) + len(values) - i - 1 < _ENOUGH * len(values):  # most columns of words end here soon
                return 0.0
        if sum(bool(_STRUCTURE.search(v)) for v in spelt) < 0.5 * len(spelt):
            return 0.0
        if chemistry.available():
            spelt = [v for v in spelt if chemistry.parsed(v.strip()) is not None]
        return 0.95 if len(spelt) >= _ENOUGH * len(values) else 0.0

    @classmethod
    def describe(cls, values: Sequence[Any]) -> dict[str, Any]:
        lengths = np.array([len(TOKEN.findall(str(v))) for v in values])
        atoms = Counter(token for v in values[:2000] for token in TOKEN.findall(str(v)) if _ATOM.search(token))
        return {
            "tokens": {
                "shortest": int(lengths.min()),
                "median": float(np.median(lengths)),
                "longest": int(lengths.max()),
            },
            "frequent atoms": [atom for atom, _ in atoms.most_common(8)],
            "samples": [str(v)[:80] for v in values[:3]],
        }

    @classmethod
    def fingerprint(cls, value: Any) -> str:
        return chemistry.canonical(str(value).strip()) or str(value)

    @classmethod
    def near_duplicate_key(cls, value: Any) -> str | None:
        """Without stereochemistry."""
        return chemistry.canonical(str(value).strip(), stereo=False)

    @classmethod
    def split_group(cls, value: Any) -> str | None:
        """Its scaffold."""
        return chemistry.scaffold(str(value).strip())

    @classmethod
    def show(cls, value: Any, on: Any = None) -> dict[str, str]:
        png = chemistry.drawing(str(value).strip())
        return {"text": str(value)} if png is None else {"png": base64.b64encode(png).decode()}

    # -- knowledge ---------------------------------------------------------------------------------------------------
    def fit(self, values: Sequence[Any]) -> None:
        values = in_memory(values)
        self.canonical = chemistry.available()
        spelt = []
        for value in values:
            try:
                spelt.append(self.spelling(value))
            except BadValueError:
                continue
        counts = Counter(token for smiles in spelt for token in set(TOKEN.findall(smiles)))
        if self._respells():  # other spellings have tokens of their own: the other slash, the other hand
            some = spelt[:: max(1, len(spelt) // _RESPELT)]
            for seed, smiles in enumerate(some * max(1, min(10, _RESPELT // max(1, len(some))))):
                counts.update(set(TOKEN.findall(chemistry.respelt(smiles, seed))))
        if not counts:
            raise DataError("A molecule column needs at least one training row with a readable SMILES; found none.")
        rare = 1 if len(values) > MANY_VALUES else 0  # it becomes <|unknown|>
        self._use(sorted(token for token, count in counts.items() if count > rare))
        self._learn_bigrams(values)

    def extend(self, values: Sequence[Any]) -> Growth:
        """Adds atoms and bonds never seen; they begin as the mean of all others."""
        new = sorted({token for v in values for token in TOKEN.findall(self.spelling(v))} - self.ids.keys())
        self._use(self.tokens[len(SPECIALS) :] + new)
        return Growth({"tokens": [[] for _ in new]})

    def _use(self, tokens: list[str]) -> None:
        self.tokens = SPECIALS + tokens
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        self.size = len(self.tokens)

    def knowledge(self) -> dict[str, Any]:
        tokens = self.tokens[len(SPECIALS) :]
        return {"tokens": tokens, "canonical": self.canonical, "bigrams": self.bigrams.tolist()}

    def set_knowledge(self, knowledge: dict[str, Any]) -> None:
        self._use(list(knowledge["tokens"]))
        self.canonical = bool(knowledge["canonical"])
        self.bigrams = np.array(knowledge["bigrams"], dtype=np.int64)

    # -- values to arrays ----------------------------------------------------------------------------------------------
    def encode(self, value: Any) -> dict[str, np.ndarray]:
        return self.arrays_of(self._ids(self.spelling(value)))

    def _ids(self, smiles: str) -> np.ndarray:
        return np.array([self.ids.get(token, UNKNOWN) for token in TOKEN.findall(smiles)], dtype=np.int32)

    def spelling(self, value: Any) -> str:
        """The value as it is read: in its one spelling where that was the training rows' too.

        Raises BadValueError for what is no SMILES, and for what is no molecule; MissingExtraError without RDKit.
        """
        if not isinstance(value, str):
            raise BadValueError(f"expected a SMILES, found {type(value).__name__}")
        smiles = value.strip()
        if "".join(TOKEN.findall(smiles)) != smiles:
            raise BadValueError(f"{smiles[:60]!r} is not a SMILES: only atoms, bonds, branches and rings are")
        if not self.canonical:
            return smiles
        if not chemistry.available():
            raise MissingExtraError("rdkit", "chem", "This model reads molecules in one spelling, which")
        canonical = chemistry.canonical(smiles)
        if canonical is None:
            raise BadValueError(f"{smiles[:60]!r} is not a molecule: rings, valences or aromaticity do not add up")
        return canonical

    def decode(self, ids: list[int]) -> str:
        return "".join(self.tokens[i] for i in ids if i >= len(SPECIALS))

    def wide_features(self, content: Content) -> WideFeatures:
        """Runs of up to three tokens, counted; with RDKit also Morgan fingerprints and descriptors."""
        ids, lens = content.gather()["id"].astype(np.uint64), content.lens
        whose = np.repeat(np.arange(len(content)), lens)
        rows, features = [], []
        running = np.zeros(len(ids), dtype=np.uint64)
        for n in range(1, _RUN + 1):
            last = len(ids) - n + 1
            if last <= 0:
                break
            running = running[:last] * np.uint64(_MANY_TOKENS) + ids[n - 1 :] + np.uint64(1)
            together = whose[:last] == whose[n - 1 :]
            rows.append(whose[:last][together])
            features.append(running[together])
        pairs = np.stack([np.concatenate(rows).astype(np.uint64), np.concatenate(features)]) if rows else _NO_PAIRS
        unique, count = np.unique(pairs, axis=1, return_counts=True)
        runs = Sparse(unique[0].astype(np.int64), unique[1], count.astype(np.float32), counted=True)
        if not self.canonical:
            return WideFeatures(len(content), {"runs": runs})
        ends = np.cumsum(lens).tolist()
        parts = content.gather()["id"]
        smiles = [self.decode(parts[end - n : end].tolist()) for n, end in zip(lens.tolist(), ends, strict=True)]
        row, bit = chemistry.fingerprint_bits(smiles)
        bits = Sparse(row, bit.astype(np.uint64), np.ones(len(row), dtype=np.float32))
        known = chemistry.descriptors(smiles)
        return WideFeatures(len(content), {"runs": runs, "fingerprint": bits, "descriptors": numbers(known)}, known)

    def max_positions(self, content: Content) -> np.ndarray:
        longest = (content.lens * _LONGER).astype(np.int64) if self._respells() else content.lens
        return np.minimum(longest + 1, self.options.length)

    def _respells(self) -> bool:
        return self.canonical and self.options.respell > 0

    # -- arrays to positions -------------------------------------------------------------------------------------------
    def segment(self, content: Content, context: SegmentContext) -> Segment:
        if context.augment and context.role != Role.ASKED and self._respells():
            content = self._respelt(content, context.keys)
        return super().segment(content, context)

    def _respelt(self, content: Content, keys: np.ndarray) -> Content:
        """The same molecules, their atoms in another order; with unknown atoms, or tokens, they stay as they are."""
        chosen = rng.uniform(rng.mix(keys, "respell")) < self.options.respell
        seeds = rng.integers(rng.mix(keys, "order"), 1 << 30)
        whole, out = content.gather(), []
        ends = content.lens.cumsum()
        for i, (end, length) in enumerate(zip(ends.tolist(), content.lens.tolist(), strict=True)):
            ids = whole["id"][end - length : end]
            if chosen[i] and (ids != UNKNOWN).all():
                other = self._ids(chemistry.respelt(self.decode(ids.tolist()), int(seeds[i])))
                ids = other if len(other) <= _LONGER * length and (other != UNKNOWN).all() else ids
            out.append(self.arrays_of(ids))
        return Content.stack(out, True) if out else content
