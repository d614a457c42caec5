"""Scores of predictions on videos, honestly averaged: by frame, by video, over videos.

    found = evaluate(load_model("equator"), dataset)
    print(found.to_markdown())
    compare(found, other)["cc"].p

:mod:`~sal360.evaluation.scores` scores frames, :mod:`~sal360.evaluation.scoring` whole videos,
:mod:`~sal360.evaluation.statistics` says how sure the mean is, and
:mod:`~sal360.evaluation.sources` reads maps from files, as ``sal360 evaluate`` does. Chapter 12
derives what is averaged over what, and why intervals are over videos.
"""

from sal360.evaluation.evaluation import Evaluation, VideoScores, compare
from sal360.evaluation.scores import METRICS, USUAL, Metric, score_frames
from sal360.evaluation.scoring import evaluate, evaluate_together
from sal360.evaluation.sources import open_predictions, open_truth
from sal360.evaluation.statistics import Comparison, Estimate, bootstrap, paired, sign_flip

__all__ = [
    "METRICS",
    "USUAL",
    "Comparison",
    "Estimate",
    "Evaluation",
    "Metric",
    "VideoScores",
    "bootstrap",
    "compare",
    "evaluate",
    "evaluate_together",
    "open_predictions",
    "open_truth",
    "paired",
    "score_frames",
    "sign_flip",
]
