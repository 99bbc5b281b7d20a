"""Tests of uov_jax.checkpoints."""
