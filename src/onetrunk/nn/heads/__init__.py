"""Read-outs that several column types share."""
