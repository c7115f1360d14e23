"""Molecules: what RDKit says of a SMILES, spellings, and how answers are judged as chemistry."""

from __future__ import annotations

import base64
from functools import partial
from typing import Any

import numpy as np
import pytest
import worlds
from rdkit import Chem

from onetrunk.columns.families.tokens.special_tokens import UNKNOWN
from onetrunk.columns.molecule import chemistry
from onetrunk.columns.molecule.encoder import TOKEN, MoleculeEncoder
from onetrunk.core.answer import Answer
from onetrunk.core.content import Role
from onetrunk.core.errors import BadValueError, DataError, MissingExtraError
from onetrunk.data.split import split
from onetrunk.data.table import Table

Molecule = partial(worlds.Sides, "molecule")
ASPIRIN, ASPIRIN_TOO = "CC(=O)Oc1ccccc1C(=O)O", "OC(=O)c1ccccc1OC(C)=O"
VALUES = [ASPIRIN, "CCO", "C[C@H](N)C(=O)O", "[Na+].[Cl-]", "C1CCNCC1", "CC(C)Br", "ClCCl", "O=C(N)/C=C/c1ccccn1"]


def fitted(values: list[str] = VALUES, **options: Any) -> Any:
    sides = Molecule(options)
    sides.fit(values)
    return sides


def without_rdkit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chemistry, "available", lambda: False)
    monkeypatch.setattr(chemistry, "parsed", lambda smiles: None)
    monkeypatch.setattr(chemistry, "canonical", lambda smiles, stereo=True: None)


# -- reading -------------------------------------------------------------------------------------------------
def test_tokens_are_atoms_bonds_and_rings() -> None:
    assert TOKEN.findall("C[C@@H](Cl)C%12=Nc1Br") == [
        "C", "[C@@H]", "(", "Cl", ")", "C", "%12", "=", "N", "c", "1", "Br",
    ]  # fmt: skip
    sides = fitted()
    assert {"/", "\\", "[C@H]", "[C@@H]"} <= set(sides.tokens), "also what other spellings need"
    for smiles in VALUES:
        assert sides.decode(sides.encode(smiles)["id"].tolist()) == Chem.CanonSmiles(smiles)


def test_two_spellings_are_one_value() -> None:
    sides = fitted()
    assert np.array_equal(sides.encode(ASPIRIN)["id"], sides.encode(ASPIRIN_TOO)["id"])
    assert Molecule().fingerprint(ASPIRIN) == Molecule().fingerprint(ASPIRIN_TOO) != Molecule().fingerprint("CCO")
    left, right = "C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"
    assert Molecule().fingerprint(left) != Molecule().fingerprint(right) and MoleculeEncoder.near_duplicate_key(
        left
    ) == MoleculeEncoder.near_duplicate_key(right)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("C1CC", "rings, valences or aromaticity do not add up"),
        ("C(C)(C)(C)(C)C", "is not a molecule"),
        ("hello there", "is not a SMILES: only atoms"),
        (3.5, "expected a SMILES, found float"),
    ],
)
def test_what_is_no_molecule_says_why(value: Any, reason: str, capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(BadValueError, match=reason):
        fitted().encode(value)
    assert capfd.readouterr() == ("", ""), "RDKit keeps quiet"


def test_bad_ones_teach_nothing_and_atoms_never_seen_are_unknown() -> None:
    sides = fitted(["CCO", "no", "C1CC"])
    assert {"C", "O"} <= set(sides.tokens) and "N" not in sides.ids
    ids = sides.encode("CCN")["id"]
    assert ids.tolist()[2] == UNKNOWN
    assert sides.dropped(worlds.content_of(sides, ["CCN", "CCO"])) == {"unknown atoms": 1}
    with pytest.raises(DataError, match="at least one training row with a readable SMILES"):
        fitted(["no", "C1CC"])


def test_recognised_by_most_of_its_values() -> None:
    assert Molecule().recognise([*VALUES] * 5) > 0.9
    assert Molecule().recognise([*VALUES, "C1CC"]) == 0, "one in nine is no molecule"
    for others in (["NO", "CO", "NO"], ["yes", "no"], ["Bonn", "Cairo"], ["1-2-3", "44"], [], [1, 2]):
        assert Molecule().recognise(others) == 0


def test_new_atoms_start_as_the_mean_of_the_others() -> None:
    sides = fitted(["CCO", "CCN"])
    sides.build(8)
    old = sides.table.data.clone()
    assert sides.extend(["CS", "CP"]) == 2 and sides.tokens[-2:] == ["P", "S"]
    assert np.allclose(sides.table.data[-1], old[4:].mean(0)) and np.allclose(sides.table.data[: len(old)], old)


# -- spellings -----------------------------------------------------------------------------------------------
def test_training_spells_given_molecules_anew_and_means_the_same() -> None:
    sides = fitted()
    content = worlds.content_of(sides, VALUES)
    plain = sides.segment(content, Role.GIVEN, worlds.keys(len(VALUES)))
    spellings = set()
    for k in range(8):
        segment = sides.segment(content, Role.GIVEN, worlds.keys(len(VALUES), k), augment=True)
        parts = np.split(segment.content["id"], segment.lens.cumsum()[:-1])
        for ids, value in zip(parts, VALUES, strict=True):
            assert Molecule().fingerprint(sides.decode(ids.tolist())) == Molecule().fingerprint(value)
        spellings.add(sides.decode(parts[0].tolist()))
    assert len(spellings) > 3
    asked = [sides.segment(content, Role.ASKED, worlds.keys(len(VALUES)), augment) for augment in (False, True)]
    assert np.array_equal(asked[0].targets["id"], asked[1].targets["id"]), "what is written has one spelling"
    never = fitted(respell=0)
    again = never.segment(content, Role.GIVEN, worlds.keys(len(VALUES)), augment=True)
    assert np.array_equal(again.content["id"], plain.content["id"])


# -- evidence ------------------------------------------------------------------------------------------------
def test_metrics_agree_with_rdkit() -> None:
    sides = fitted()
    answers = [Answer(v) for v in (ASPIRIN_TOO, "CCO", "C1CC", "OCC")]
    truths = [ASPIRIN, "CCN", "CCO", "CCO"]
    metrics = sides.measure(answers, truths)
    assert (
        metrics["exact_match"] == 0.5 and metrics["validity"] == 0.75 and metrics["uniqueness"] == pytest.approx(2 / 3)
    )
    bits = [set(np.flatnonzero(Molecule().features().transform([s]).toarray()[0])) for s in ("CCO", "CCN")]
    tanimoto = len(bits[0] & bits[1]) / len(bits[0] | bits[1])
    assert metrics["similarity"] == pytest.approx((1 + tanimoto + 0 + 1) / 4)
    novelty = sides.novelty(answers, truths, ["OCC", "CC"])
    assert novelty == {"novelty": 0.5, "novelty_of_true": pytest.approx(2 / 3)}


def test_baselines_see_fingerprints() -> None:
    x = Molecule().features().fit_transform([ASPIRIN, None, ASPIRIN_TOO, "CCO", "C1CC"]).toarray()
    assert x.shape == (5, 2048) and np.array_equal(x[0], x[2]) and not x[1].any() and not x[4].any()
    assert (x[0] != x[3]).any()


def test_molecules_are_drawn_and_what_is_none_is_written() -> None:
    assert base64.b64decode(Molecule().show(ASPIRIN)["png"]).startswith(b"\x89PNG")
    assert Molecule().show("C1CC") == {"text": "C1CC"}


def test_a_scaffold_stands_in_one_part() -> None:
    rings = ["c1ccccc1", "C1CCNCC1", "C1CC1", "c1ccoc1", "c1ccc2ccccc2c1"]
    smiles = ["C" * i + ring for ring in rings for i in range(1, 13)]
    table = Table({"m": [*smiles, "no"], "y": [str(i % 2) for i in range(61)]})
    made = split(table, {"m": "molecule", "y": "category"}, "scaffold:m:60/20/20", given=["m"], ask=["y"])
    scaffolds = np.array([MoleculeEncoder.split_group(s) for s in table["m"]], dtype=object)
    assert scaffolds[0] == "c1ccccc1" and scaffolds[-1] is None and MoleculeEncoder.split_group("CCO") == ""
    parts = [set(scaffolds[index]) - {None} for index in made.indices().values()]
    assert [len(index) for index in made.indices().values()] == pytest.approx([36, 12, 12], abs=1)
    assert not parts[0] & parts[1] and not parts[1] & parts[2] and not parts[0] & parts[2]
    with pytest.raises(DataError, match="'y', read as category, has none"):
        split(table, {"m": "molecule", "y": "category"}, "scaffold:y", given=["m"], ask=["y"])


# -- without RDKit -------------------------------------------------------------------------------------------
def test_without_rdkit_smiles_are_read_as_spelt(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fitted()
    without_rdkit(monkeypatch)
    sides = fitted()
    assert sides.decode(sides.encode(ASPIRIN_TOO)["id"].tolist()) == ASPIRIN_TOO
    assert sides.encode("C1CC")["id"].size == 4, "nobody checks it"
    metrics = sides.measure([Answer("CCO"), Answer("CCN")], ["CCO", "CCO"])
    assert metrics["exact_match"] == 0.5 and metrics["validity"] is None and metrics["similarity"] is None
    assert sides.features().fit_transform([*VALUES, None]).shape[0] == 9
    assert Molecule().show("CCO") == {"text": "CCO"} and MoleculeEncoder.split_group("CCO") is None
    with pytest.raises(
        MissingExtraError, match=r"needs the package 'rdkit'. Install it: pip install 'onetrunk\[chem\]'"
    ):
        whole.encode("CCO")
