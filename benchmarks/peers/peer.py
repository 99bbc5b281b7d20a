"""What is measured of another library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Call = Callable[[], Any]


@dataclass(frozen=True)
class Peer:
    """What is measured of another library; `layer` and `network` return calls without arguments.

    name: what it is called in tables.
    layer: (coords int32 [N, 4], x float32 [N, C_in], w float32 [27, C_in, C_out], dy float32
        [N, C_out]) -> (forward, forward + backward), with the map built before. The first gives y,
        the second y, dx and dw [27 or 3, 3, 3, C_in, C_out], as torch tensors.
    first_map: builds the 3x3x3 map of the coords.
    network: (coords, features float32 [N, C_in], labels int32 [N], weights as
        `checkpoints.state_dict.model_to_state_dict` names them) -> (forward in evaluation mode,
        training step) of Res16UNet34C; maps are built anew in every call. The first gives scores
        [N, classes], the second the loss.
    """

    name: str
    layer: Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], tuple[Call, Call]]
    first_map: Callable[[np.ndarray], Any]
    network: Callable[
        [np.ndarray, np.ndarray, np.ndarray, Mapping[str, np.ndarray]], tuple[Call, Call]
    ]
