"""Text in any language, and conversations: byte-level BPE learnt from the user's own rows, or characters."""

ENCODER = "onetrunk.columns.text.encoder:TextEncoder"
MODULE = "onetrunk.columns.families.tokens.module:TokenModule"
EVALUATION = "onetrunk.columns.text.evaluation:TextEvaluation"
