"""The engine against dense products and peers in one run: `python -m benchmarks`."""
