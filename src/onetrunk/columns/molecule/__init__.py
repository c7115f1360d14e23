"""Molecules, written as SMILES: read, completed or designed, atom by atom."""

ENCODER = "onetrunk.columns.molecule.encoder:MoleculeEncoder"
MODULE = "onetrunk.columns.families.tokens.module:TokenModule"
EVALUATION = "onetrunk.columns.molecule.evaluation:MoleculeEvaluation"
