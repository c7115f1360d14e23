"""Audio: speech and other sound, as a log-mel spectrogram cut in patches of time; recognised, completed, spoken."""

ENCODER = "onetrunk.columns.audio.encoder:AudioEncoder"
MODULE = "onetrunk.columns.audio.module:AudioModule"
EVALUATION = "onetrunk.columns.audio.evaluation:AudioEvaluation"
