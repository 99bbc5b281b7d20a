"""The CUDA backend on a CPU: its very sources, emulated."""
