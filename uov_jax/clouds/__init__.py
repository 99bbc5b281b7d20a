"""Point clouds of any origin: read from the usual formats, with labels written beside them."""

from uov_jax.clouds.cloud import AS_STORED, Cloud, CloudError, Loader, Reading, Source
from uov_jax.clouds.labels import read_label, write_arrays, write_colored, write_label
from uov_jax.clouds.read import ENDINGS, Clouds, clouds_in, read_cloud

__all__ = [
    "AS_STORED",
    "ENDINGS",
    "Cloud",
    "CloudError",
    "Clouds",
    "Loader",
    "Reading",
    "Source",
    "clouds_in",
    "read_cloud",
    "read_label",
    "write_arrays",
    "write_colored",
    "write_label",
]
