"""CAT-Seg (arXiv 2303.11797), first release of August 2023, large: a teacher with 175 words."""

from __future__ import annotations

from uov_jax.teachers.catseg.network import CatSeg
from uov_jax.teachers.catseg.teacher import OFFICIAL, CatSegTeacher, create

__all__ = ["OFFICIAL", "CatSeg", "CatSegTeacher", "create"]
