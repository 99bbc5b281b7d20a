"""Grouping of points by the masks above them, pseudo labels, and making them."""
