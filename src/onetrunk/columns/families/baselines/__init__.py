"""Simple models that a column type may name as its baselines: scikit-learn's, with everything chosen by validation."""
