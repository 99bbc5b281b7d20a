"""3D semantic segmentation without 3D labels, in JAX."""
