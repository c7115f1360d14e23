"""Molecules, written as SMILES: read, completed or designed, atom by atom.

With RDKit (`pip install 'onetrunk[chem]'`) every value is checked and brought to one spelling, given molecules are
spelt in another order at every step of training, and answers are judged as chemistry. Without it SMILES are read as
they are spelt.
"""

from __future__ import annotations

import base64
import importlib.util
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
from pydantic import Field

from onetrunk.columns._tokens import MANY, SPECIALS, UNKNOWN, TokenOptions, TokenSequence, parts_of
from onetrunk.core import rng
from onetrunk.core.answer import Answer
from onetrunk.core.content import Content, Role, Segment
from onetrunk.core.errors import BadValueError, DataError, MissingExtraError
from onetrunk.core.values import in_memory

# Atoms, bonds, branches and rings: the tokens of arXiv 1711.04810.
_TOKEN = re.compile(r"\[[^\[\]\s]+\]|Br|Cl|[BCNOPSFI]|[bcnops]|%\d{2}|[0-9]|[-=#$:/\\.()+~@?>*]")
_ATOM = re.compile(r"[A-Za-z]")
_STRUCTURE = re.compile(r"[\[\]()=#\d]")
_ENOUGH = 0.95  # share of values that are SMILES, for a column to be recognised
_BITS = 2048  # of the fingerprint
_RADIUS = 2
_RESPELT = 10_000  # other spellings whose tokens are learnt, some of each molecule where there are few
_LONGER = 1.5  # another spelling has at most so many times the tokens


class Molecule(TokenSequence):
    """One token an atom, a bond or a bracket. Two spellings of a molecule are one value."""

    class Options(TokenOptions):
        length: int = Field(128, ge=1, le=1_000_000)  # tokens of one molecule that the trunk sees
        respell: float = Field(1.0, ge=0, le=1)  # share of given ones spelt in another order (arXiv 1703.07076)

    # -- knowledge ---------------------------------------------------------------------------------------------------
    @classmethod
    def recognise(cls, values: Sequence[Any]) -> float:
        if not values or not all(isinstance(v, str) for v in values):
            return 0.0
        spelt = [v for v in values if _ATOM.search(v) and "".join(_TOKEN.findall(v)) == v.strip()]
        structured = sum(bool(_STRUCTURE.search(v)) for v in spelt)
        if len(spelt) < _ENOUGH * len(values) or structured < 0.5 * len(spelt):
            return 0.0
        if _chemistry():
            spelt = [v for v in spelt if _parsed(v.strip()) is not None]
        return 0.95 if len(spelt) >= _ENOUGH * len(values) else 0.0

    def fit(self, values: Sequence[Any]) -> None:
        values = in_memory(values)
        self.canonical = _chemistry()
        spelt = []
        for value in values:
            try:
                spelt.append(self._spelling(value))
            except BadValueError:
                continue
        counts = Counter(token for smiles in spelt for token in set(_TOKEN.findall(smiles)))
        if self._respells():  # other spellings have tokens of their own: the other slash, the other hand
            some = spelt[:: max(1, len(spelt) // _RESPELT)]
            for seed, smiles in enumerate(some * max(1, min(10, _RESPELT // max(1, len(some))))):
                counts.update(set(_TOKEN.findall(_spelt_anew(smiles, seed))))
        if not counts:
            raise DataError("A molecule column needs at least one training row with a readable SMILES; found none.")
        rare = 1 if len(values) > MANY else 0  # it becomes <|unknown|>
        self._remember(sorted(token for token, count in counts.items() if count > rare))
        self.pairs = self._frequent_pairs(values)

    def extend(self, values: Sequence[Any]) -> int:
        """Adds atoms and bonds never seen; they start as the mean of all others."""
        spelt = [self._spelling(v) for v in values]
        new = sorted({token for smiles in spelt for token in _TOKEN.findall(smiles)} - self.ids.keys())
        if new and hasattr(self, "table"):
            self._grow([list(range(len(SPECIALS), self.size))] * len(new))
        self._remember(self.tokens[len(SPECIALS) :] + new)
        return len(new)

    def _remember(self, tokens: list[str]) -> None:
        self.tokens = SPECIALS + tokens
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        self.size = len(self.tokens)

    def knowledge(self) -> dict[str, Any]:
        known = {"tokens": self.tokens[len(SPECIALS) :], "canonical": self.canonical}
        return {**known, "pairs": self.pairs.tolist()}

    def set_knowledge(self, knowledge: dict[str, Any]) -> None:
        self._remember(list(knowledge["tokens"]))
        self.canonical = bool(knowledge["canonical"])
        self.pairs = np.array(knowledge["pairs"], dtype=np.int64)

    # -- a person's view ---------------------------------------------------------------------------------------------
    @classmethod
    def describe(cls, values: Sequence[Any]) -> dict[str, Any]:
        lengths = np.array([len(_TOKEN.findall(str(v))) for v in values])
        atoms = Counter(token for v in values[:2000] for token in _TOKEN.findall(str(v)) if _ATOM.search(token))
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
        return _canonical(str(value).strip()) or str(value)

    @classmethod
    def near(cls, value: Any) -> str | None:
        """Without stereochemistry."""
        return _canonical(str(value).strip(), stereo=False)

    @classmethod
    def kin(cls, value: Any) -> str | None:
        """Its rings and what links them (Bemis and Murcko 1996); empty for chains."""
        mol = _parsed(str(value).strip())
        if mol is None:
            return None
        from rdkit.Chem.Scaffolds.MurckoScaffold import MurckoScaffoldSmiles

        return MurckoScaffoldSmiles(mol=mol, includeChirality=False)

    @classmethod
    def show(cls, value: Any) -> dict[str, str]:
        mol = _parsed(str(value).strip())
        if mol is None:
            return {"text": str(value)}
        from rdkit.Chem.Draw import rdMolDraw2D

        canvas = rdMolDraw2D.MolDraw2DCairo(320, 220)
        rdMolDraw2D.PrepareAndDrawMolecule(canvas, mol)
        canvas.FinishDrawing()
        return {"png": base64.b64encode(canvas.GetDrawingText()).decode()}

    def dropped(self, content: Content) -> dict[str, int]:
        longer = int((content.lens > self.options.length).sum())
        unknown = int((content.data["id"] == UNKNOWN).sum())
        found = {
            f"molecules longer than {self.options.length} tokens, read up to there": longer,
            "unknown atoms": unknown,
        }
        return {reason: n for reason, n in found.items() if n}

    # -- values to parts ---------------------------------------------------------------------------------------------
    def encode(self, value: Any) -> dict[str, np.ndarray]:
        return parts_of(self._ids(self._spelling(value)))

    def _ids(self, smiles: str) -> np.ndarray:
        return np.array([self.ids.get(token, UNKNOWN) for token in _TOKEN.findall(smiles)], dtype=np.int32)

    def _spelling(self, value: Any) -> str:
        """The value as it is read: in its one spelling where that was the training rows' too."""
        if not isinstance(value, str):
            raise BadValueError(f"expected a SMILES, found {type(value).__name__}")
        smiles = value.strip()
        if "".join(_TOKEN.findall(smiles)) != smiles:
            raise BadValueError(f"{smiles[:60]!r} is not a SMILES: only atoms, bonds, branches and rings are")
        if not self.canonical:
            return smiles
        if not _chemistry():
            raise MissingExtraError("rdkit", "chem", "This model reads molecules in one spelling, which")
        found = _canonical(smiles)
        if found is None:
            raise BadValueError(f"{smiles[:60]!r} is not a molecule: rings, valences or aromaticity do not add up")
        return found

    def written(self, ids: list[int]) -> str:
        return "".join(self.tokens[i] for i in ids if i >= len(SPECIALS))

    def positions(self, content: Content) -> np.ndarray:
        longest = (content.lens * _LONGER).astype(np.int64) if self._respells() else content.lens
        return np.minimum(longest + 1, self.options.length)

    def _respells(self) -> bool:
        return self.canonical and self.options.respell > 0

    # -- parts to positions ------------------------------------------------------------------------------------------
    def segment(self, content: Content, role: Role, keys: np.ndarray, augment: bool = False) -> Segment:
        if augment and role != Role.ASKED and self._respells():
            content = self._respelt(content, keys)
        return super().segment(content, role, keys, augment)

    def _respelt(self, content: Content, keys: np.ndarray) -> Content:
        """The same molecules, their atoms in another order; with unknown atoms, or tokens, they stay as they are."""
        chosen = rng.uniform(rng.mix(keys, "respell")) < self.options.respell
        seeds = rng.integers(rng.mix(keys, "order"), 1 << 30)
        whole, out = content.gather(), []
        ends = content.lens.cumsum()
        for i, (end, length) in enumerate(zip(ends.tolist(), content.lens.tolist(), strict=True)):
            ids = whole["id"][end - length : end]
            if chosen[i] and (ids != UNKNOWN).all():
                other = self._ids(_spelt_anew(self.written(ids.tolist()), int(seeds[i])))
                ids = other if len(other) <= _LONGER * length and (other != UNKNOWN).all() else ids
            out.append(parts_of(ids))
        return Content.stack(out, True) if out else content

    # -- evidence ----------------------------------------------------------------------------------------------------
    def metrics(self, answers: Sequence[Answer], truths: Sequence[Any]) -> dict[str, float | None]:
        """Validity: the share of answers that are molecules. Uniqueness: of these, the share that differ."""
        found = [_canonical(str(a.value)) for a in answers]
        valid = [smiles for smiles in found if smiles]
        exact = self.per_row(answers, truths)
        return {
            "exact_match": float(exact.mean()) if len(exact) else None,
            "similarity": _mean([_similarity(a, str(t)) for a, t in zip(found, truths, strict=True)]),
            "validity": _mean([bool(smiles) for smiles in found]) if _chemistry() else None,
            "uniqueness": len(set(valid)) / len(valid) if valid else None,
        }

    def novelty(
        self, answers: Sequence[Answer], truths: Sequence[Any], known: Sequence[Any]
    ) -> dict[str, float | None]:
        """The share of different valid answers that no training row holds; and of the true ones."""
        seen = {self.fingerprint(v) for v in known}
        valid = {smiles for a in answers if (smiles := _canonical(str(a.value)))}
        true = {self.fingerprint(t) for t in truths}
        return {f"novelty{of}": _mean([s not in seen for s in each]) for of, each in (("", valid), ("_of_true", true))}

    def per_row(self, answers: Sequence[Answer], truths: Sequence[Any]) -> np.ndarray | None:
        pairs = zip(answers, truths, strict=True)
        return np.array([self.fingerprint(a.value) == self.fingerprint(t) for a, t in pairs], dtype=np.float64)

    def features(self) -> Any:
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer

        if _chemistry():
            return FunctionTransformer(_fingerprints)
        spelt = FunctionTransformer(lambda values: ["" if v is None else str(v) for v in values])
        grams = CountVectorizer(token_pattern=_TOKEN.pattern, lowercase=False, ngram_range=(1, 3), min_df=2)
        return make_pipeline(spelt, grams)

    def target(self, values: Sequence[Any]) -> np.ndarray:
        return np.array([self._spelling(v) for v in values], dtype=object)


# -- chemistry: RDKit's, where it is installed -----------------------------------------------------------------------
@cache
def _chemistry() -> bool:
    return importlib.util.find_spec("rdkit") is not None


@lru_cache(maxsize=1 << 13)
def _parsed(smiles: str) -> Any:
    """An RDKit molecule; None where there is none to be read, or no RDKit."""
    if not _chemistry() or not smiles:
        return None
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        return Chem.MolFromSmiles(smiles)


@lru_cache(maxsize=1 << 18)
def _canonical(smiles: str, stereo: bool = True) -> str | None:
    mol = _parsed(smiles)
    if mol is None:
        return None
    from rdkit import Chem

    return Chem.MolToSmiles(mol, isomericSmiles=stereo)


def _spelt_anew(smiles: str, seed: int) -> str:
    mol = _parsed(smiles)
    if mol is None:
        return smiles
    from rdkit import Chem

    return Chem.MolToRandomSmilesVect(mol, 1, randomSeed=seed)[0]


def _similarity(smiles: str | None, truth: str) -> float | None:
    """Tanimoto's, of Morgan fingerprints; 0 for what is no molecule. None without a true molecule, or RDKit."""
    other = _parsed(truth.strip())
    if other is None:
        return None
    from rdkit.DataStructs import TanimotoSimilarity

    mol = _parsed(smiles) if smiles else None
    bits = _morgan().GetFingerprint
    return 0.0 if mol is None else TanimotoSimilarity(bits(mol), bits(other))


@cache
def _morgan() -> Any:
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

    return GetMorganGenerator(radius=_RADIUS, fpSize=_BITS)


def _fingerprints(values: Sequence[Any]) -> Any:
    """Morgan fingerprints, sparse [n, bits]; zeros where there is no molecule."""
    from scipy.sparse import csr_matrix

    mols = [None if v is None else _parsed(str(v).strip()) for v in values]
    rows = [np.zeros(0, int) if m is None else np.array(_morgan().GetFingerprint(m).GetOnBits()) for m in mols]
    lens = np.array([len(row) for row in rows])
    columns = np.concatenate([*rows, np.zeros(0)]).astype(np.int64)
    return csr_matrix((np.ones(len(columns)), columns, np.append(0, lens.cumsum())), shape=(len(values), _BITS))


def _mean(values: Sequence[float | None]) -> float | None:
    present = [v for v in values if v is not None]
    return float(np.mean(present)) if present else None


CODEC = Molecule
