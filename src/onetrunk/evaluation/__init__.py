"""Measured facts kept beside the model, each with its interval and its simple baseline."""
