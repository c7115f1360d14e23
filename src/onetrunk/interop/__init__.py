"""Reads models of other programs, and writes ours for other programs."""
