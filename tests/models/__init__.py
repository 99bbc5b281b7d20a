"""Tests of uov_jax.models."""
