"""Boxes: labelled rectangles in a picture. When asked, this is object detection.

A value is a list of `{"label": ..., "box": [x, y, width, height]}`, in pixels from the picture's upper left corner
(COCO's way); an empty list says that nothing is there. Answers are the same, with a `score`, the surest first.
"""

ENCODER = "onetrunk.columns.boxes.encoder:BoxesEncoder"
MODULE = "onetrunk.columns.boxes.module:BoxesModule"
EVALUATION = "onetrunk.columns.boxes.evaluation:BoxesEvaluation"
