"""How drawn films are judged: by their pixels."""

from __future__ import annotations

from onetrunk.columns.families.patches.evaluation import PatchEvaluation
from onetrunk.columns.video.encoder import VideoEncoder


class VideoEvaluation(PatchEvaluation[VideoEncoder]):
    mean_name = "mean film"
