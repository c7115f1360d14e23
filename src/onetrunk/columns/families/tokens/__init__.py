"""Sequences of tokens: given, read at once; asked, written from left to right; masked, filled in place."""
