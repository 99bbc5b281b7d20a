"""Datasets: one file each with its readers, splits and submission format; projection."""
