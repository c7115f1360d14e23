"""Which way each metric is better, of the column types whose evaluation does not list its own yet."""

from __future__ import annotations

from onetrunk.core.metric import Metric

METRICS = (
    Metric("accuracy", True),
    Metric("balanced_accuracy", True),
    Metric("f1_macro", True),
    Metric("f1_micro", True),
    Metric("mAP", True),
    Metric("auc", True),
    Metric("log_loss", False, "nats"),
    Metric("brier", False),
    Metric("ece", False),
    Metric("unseen", False, "rows"),
    Metric("rmse", False),
    Metric("mae", False),
    Metric("mse", False),
    Metric("r2", True),
    Metric("medae", False),
    Metric("spearman", True),
    Metric("coverage", True),
    Metric("interval_width", False),
    Metric("crps", False),
    Metric("mae_days", False, "days"),
    Metric("rmse_days", False, "days"),
    Metric("smape", False),
    Metric("mase", False),
    Metric("hit_rate_10", True),
    Metric("ndcg_10", True),
    Metric("mrr", True),
    Metric("hit_rate_10_of_101", True),
    Metric("ndcg_10_of_101", True),
    Metric("mAP@.5", True),
    Metric("mAP@[.5:.95]", True),
)
