"""Datasets, teacher dumps, projection, augmentation and the input pipeline."""
