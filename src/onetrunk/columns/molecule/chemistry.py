"""What RDKit says of a SMILES, where it is installed (`pip install 'onetrunk[chem]'`)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np

_BITS = 2048  # of the fingerprint
_SLIGHTLY = 1e-3  # how far apart different molecules of equal fingerprints are
_RADIUS = 2


@cache
def available() -> bool:
    """Is RDKit installed?"""
    return importlib.util.find_spec("rdkit") is not None


@lru_cache(maxsize=1 << 13)
def parsed(smiles: str) -> Any:
    """An RDKit molecule; None where there is none to be read, or no RDKit."""
    if not available() or not smiles:
        return None
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        return Chem.MolFromSmiles(smiles)


@lru_cache(maxsize=1 << 18)
def canonical(smiles: str, stereo: bool = True) -> str | None:
    """The one spelling of a molecule, with stereochemistry or without; None of what is no molecule."""
    molecule = parsed(smiles)
    if molecule is None:
        return None
    from rdkit import Chem

    return Chem.MolToSmiles(molecule, isomericSmiles=stereo)


def respelt(smiles: str, seed: int) -> str:
    """The same molecule, its atoms in another order."""
    molecule = parsed(smiles)
    if molecule is None:
        return smiles
    from rdkit import Chem

    return Chem.MolToRandomSmilesVect(molecule, 1, randomSeed=seed)[0]


def scaffold(smiles: str) -> str | None:
    """Rings and what links them (Bemis and Murcko 1996); empty for chains, None of what is no molecule."""
    molecule = parsed(smiles)
    if molecule is None:
        return None
    from rdkit.Chem.Scaffolds.MurckoScaffold import MurckoScaffoldSmiles

    return MurckoScaffoldSmiles(mol=molecule, includeChirality=False)


def drawing(smiles: str, width: int = 320, height: int = 220) -> bytes | None:
    """A PNG of so many pixels; None of what is no molecule."""
    molecule = parsed(smiles)
    if molecule is None:
        return None
    from rdkit.Chem.Draw import rdMolDraw2D

    canvas = rdMolDraw2D.MolDraw2DCairo(width, height)
    rdMolDraw2D.PrepareAndDrawMolecule(canvas, molecule)
    canvas.FinishDrawing()
    return canvas.GetDrawingText()


def similarity(smiles: str | None, truth: str) -> float | None:
    """Tanimoto's, of Morgan fingerprints; 0 for what is no molecule. None without a true molecule, or RDKit."""
    true = parsed(truth.strip())
    if true is None:
        return None
    from rdkit.DataStructs import TanimotoSimilarity

    molecule = parsed(smiles) if smiles else None
    bits = _morgan().GetFingerprint
    return 0.0 if molecule is None else TanimotoSimilarity(bits(molecule), bits(true))


def nearest(values: Sequence[str], known: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """1 less Tanimoto's similarity to the nearest of m known molecules, float64 [n], and which it is, int64 [n]. What
    is no molecule is 1 from all; two that differ are never 0 apart, whatever their fingerprints."""
    ours, theirs = fingerprints(values), fingerprints(known)
    common = (ours @ theirs.T).toarray()
    either = np.asarray(ours.sum(1)).reshape(-1, 1) + np.asarray(theirs.sum(1)).reshape(1, -1) - common
    alike = np.divide(common, either, out=np.zeros_like(common), where=either > 0)
    index = alike.argmax(1)
    distance = 1 - alike[np.arange(len(values)), index]
    same = {canonical(smiles): i for i, smiles in reversed(list(enumerate(known)))}
    for i, smiles in enumerate(map(canonical, values)):
        if smiles is not None and smiles in same:
            distance[i], index[i] = 0.0, same[smiles]
        elif distance[i] == 0:
            distance[i] = _SLIGHTLY
    return distance, index


def fingerprints(values: Sequence[Any]) -> Any:
    """Morgan fingerprints, sparse [n, bits]; zeros where there is no molecule."""
    from scipy.sparse import csr_matrix

    row, bit = fingerprint_bits(values)
    return csr_matrix((np.ones(len(row)), (row, bit)), shape=(len(values), _BITS))


def fingerprint_bits(values: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """The bits of Morgan fingerprints that are set: which value's, ascending, and which bit, int64."""
    molecules = [None if v is None else parsed(str(v).strip()) for v in values]
    bits = [np.zeros(0, int) if m is None else np.array(_morgan().GetFingerprint(m).GetOnBits()) for m in molecules]
    row = np.repeat(np.arange(len(values)), [len(each) for each in bits])
    return row, np.concatenate([*bits, np.zeros(0)]).astype(np.int64)


def descriptors(values: Sequence[Any]) -> np.ndarray:
    """What a chemist would look up of each molecule, in units that make them alike, float64 [n, 8]; NaN where there is
    no molecule: weight, octanol-water partition (Crippen), polar surface, donors and acceptors of hydrogen bonds, bonds
    that turn, rings, aromatic atoms."""
    from rdkit.Chem import rdMolDescriptors

    out = np.full((len(values), 8), np.nan)
    for i, value in enumerate(values):
        molecule = None if value is None else parsed(str(value).strip())
        if molecule is not None:
            out[i] = (
                rdMolDescriptors.CalcExactMolWt(molecule) / 100,
                rdMolDescriptors.CalcCrippenDescriptors(molecule)[0],
                rdMolDescriptors.CalcTPSA(molecule) / 50,
                rdMolDescriptors.CalcNumHBD(molecule),
                rdMolDescriptors.CalcNumHBA(molecule) / 2,
                rdMolDescriptors.CalcNumRotatableBonds(molecule) / 3,
                rdMolDescriptors.CalcNumRings(molecule),
                sum(atom.GetIsAromatic() for atom in molecule.GetAtoms()) / 5,
            )
    return out


@cache
def _morgan() -> Any:
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

    return GetMorganGenerator(radius=_RADIUS, fpSize=_BITS)
