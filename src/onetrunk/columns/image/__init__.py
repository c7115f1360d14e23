"""Image: pictures of any size, grey or colour, brought to one size and cut in patches; read, completed or drawn."""

ENCODER = "onetrunk.columns.image.encoder:ImageEncoder"
MODULE = "onetrunk.columns.image.module:ImageModule"
EVALUATION = "onetrunk.columns.image.evaluation:ImageEvaluation"
