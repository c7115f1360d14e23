"""Date and time: calendar parts and trend. Answers are dates or datetimes at the column's own resolution."""

ENCODER = "onetrunk.columns.date.encoder:DateEncoder"
MODULE = "onetrunk.columns.date.module:DateModule"
EVALUATION = "onetrunk.columns.date.evaluation:DateEvaluation"
