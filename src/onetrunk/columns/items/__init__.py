"""Items: what a person bought, watched or clicked, in order; asked, what comes next, the likeliest first."""

ENCODER = "onetrunk.columns.items.encoder:ItemsEncoder"
MODULE = "onetrunk.columns.items.module:ItemsModule"
EVALUATION = "onetrunk.columns.items.evaluation:ItemsEvaluation"
