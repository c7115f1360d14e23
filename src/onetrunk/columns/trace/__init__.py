"""Steps with fields, one of which is asked at each: what a student answers, from the skill and all before.

Knowledge tracing (arXiv 1506.05908) is a history of (skill, correct). A step's answer is read where its other fields
are known and its own is not: what was answered at a step enters with the next one.
"""

ENCODER = "onetrunk.columns.trace.encoder:TraceEncoder"
MODULE = "onetrunk.columns.trace.module:TraceModule"
EVALUATION = "onetrunk.columns.trace.evaluation:TraceEvaluation"
