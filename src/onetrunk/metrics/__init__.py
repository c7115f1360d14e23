"""The field's metrics, through kept libraries. A metric that is undefined is None, never 0."""
