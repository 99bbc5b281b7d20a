"""2D teachers: segment an image into masks with an embedding each, and where they can, a word."""

from __future__ import annotations

from uov_jax.teachers.teacher import (
    ImageMasks,
    Teacher,
    TeacherOptions,
    create_teacher,
    packages_needed,
    teacher_names,
)

__all__ = [
    "ImageMasks",
    "Teacher",
    "TeacherOptions",
    "create_teacher",
    "packages_needed",
    "teacher_names",
]
