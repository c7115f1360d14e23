"""Series of numbers at regular times, one channel or many: forecast from what was seen, or read, or completed.

Values are lists or arrays [T] or [T, C], or channels by name, `{"north": [...], "south": [...]}`; None and NaN are
missing points. Asked, a value's last `horizon` points are what comes next.
"""

ENCODER = "onetrunk.columns.series.encoder:SeriesEncoder"
MODULE = "onetrunk.columns.series.module:SeriesModule"
EVALUATION = "onetrunk.columns.series.evaluation:SeriesEvaluation"
