"""Category: one class, or several at once (multi-label), out of a known set."""

ENCODER = "onetrunk.columns.category.encoder:CategoryEncoder"
MODULE = "onetrunk.columns.category.module:CategoryModule"
EVALUATION = "onetrunk.columns.category.evaluation:CategoryEvaluation"
