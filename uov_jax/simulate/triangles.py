"""Triangles that rays are cast at: by Embree, or in numpy where the package is missing."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from uov_jax.simulate.geometry import Mesh
from uov_jax.simulate.numpy_triangles import FAR, NumpyTriangles

try:
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene

    WITHOUT_EMBREE = ""  # why there is none
except ImportError as error:  # pragma: no cover - depends on the installation
    WITHOUT_EMBREE = str(error) or repr(error)

Float32 = NDArray[np.float32]
Indices = NDArray[np.int32]


class Triangles(Protocol):
    """Triangles that stand still, ready for casting."""

    def intersect(self, origins: Float32, directions: Float32) -> tuple[Float32, Indices]:
        """What rays float32[N, 3] meet first: distance, `FAR` for nothing; face, -1 for nothing.

        Where faces lie in one place, or touch where a ray goes through, it is any of them.
        """
        ...

    def blocks(self, origins: Float32, directions: Float32) -> NDArray[np.bool_]:
        """Whether rays meet anything at all."""
        ...


class EmbreeTriangles:
    """Triangles as a scene of Embree."""

    def __init__(self, vertices: Float32, faces: Indices) -> None:
        """Vertices float32[V, 3], faces int32[F, 3]."""
        self._scene = EmbreeScene()
        self._mesh = TriangleMesh(self._scene, vertices, faces)

    def intersect(self, origins: Float32, directions: Float32) -> tuple[Float32, Indices]:
        """As `Triangles.intersect`."""
        hit = self._scene.run(*map(np.ascontiguousarray, (origins, directions)), output=1)
        distance, face = hit["tfar"], hit["primID"]
        none = face < 0
        distance[none] = FAR
        face[none] = -1
        return distance, face

    def blocks(self, origins: Float32, directions: Float32) -> NDArray[np.bool_]:
        """As `Triangles.blocks`."""
        rays = map(np.ascontiguousarray, (origins, directions))
        return self._scene.run(*rays, query="OCCLUDED") != -1


def triangles_of(mesh: Mesh) -> Triangles:
    """The faces of a mesh, with their numbers."""
    kind = NumpyTriangles if WITHOUT_EMBREE else EmbreeTriangles
    return kind(mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32))
