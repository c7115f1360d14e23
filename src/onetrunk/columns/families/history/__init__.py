"""Histories: steps in order, each of one field or several, one of which is asked at each step from what came before."""
