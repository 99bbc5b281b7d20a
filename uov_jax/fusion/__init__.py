"""Fusion of what many views of a room say into features of its points."""
