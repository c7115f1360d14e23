"""Floor 5: measured facts kept beside the model, each with its interval and the simple baseline next to it."""
