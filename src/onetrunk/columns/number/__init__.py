"""Number: a real quantity. Answers are floats in the column's own units."""

ENCODER = "onetrunk.columns.number.encoder:NumberEncoder"
MODULE = "onetrunk.columns.families.scalar.module:ScalarModule"
EVALUATION = "onetrunk.columns.families.scalar.evaluation:ScalarEvaluation"
