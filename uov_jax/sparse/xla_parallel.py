"""The convolutions of the `xla` backend where a loop over chunks would leave a machine idle."""

from uov_jax.sparse.xla import gather_gemm, gather_gemm_dw

__all__ = ["gather_gemm", "gather_gemm_dw"]
