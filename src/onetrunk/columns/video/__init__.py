"""Video: a few frames of a film, of one size and cut in patches over space and time; read, completed or drawn."""

ENCODER = "onetrunk.columns.video.encoder:VideoEncoder"
MODULE = "onetrunk.columns.video.module:VideoModule"
EVALUATION = "onetrunk.columns.video.evaluation:VideoEvaluation"
