"""Measurements of the engine against ceilings and peers in one run: `python -m benchmarks`."""
