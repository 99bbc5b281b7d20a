"""Tests of uov_jax.evaluation."""
