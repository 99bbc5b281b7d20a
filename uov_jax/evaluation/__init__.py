"""Scores and tables of predicted point labels, and the one loop that judges sweeps."""
