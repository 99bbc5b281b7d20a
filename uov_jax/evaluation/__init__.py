"""Scores, tables and pictures of predicted point labels."""

from __future__ import annotations

from uov_jax.evaluation.confusion import ConfusionMatrix
from uov_jax.evaluation.tables import format_table

__all__ = ["ConfusionMatrix", "format_table"]
