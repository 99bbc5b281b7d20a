"""Tests of uov_jax.convert."""
