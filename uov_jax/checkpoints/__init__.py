"""Checkpoints: of runs, of PyTorch trainers, and the one way to load a network from any of them."""
