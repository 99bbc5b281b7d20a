"""What approximate flat interaction can be told."""

from __future__ import annotations

import dataclasses

from uov_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class FlatInteraction:
    """Parameters of approximate flat interaction; the defaults are the published ones.

    Raises:
        InputError: the sampled levels would have too few points for the neighbours asked for.

    """

    points: int = 4096
    """Level l = 1.. has `points // factor**l` centres.

    The default is for nuScenes' 34,000 points. Denser clouds need more: on a SemanticKITTI scan of
    123,389 points with a fifth of the labels drawn at random, of 81.0 % right labels 4,096 make
    74.0 %, 16,384 make 85.1 % and 65,536 make 92.8 %.
    """
    stages: int = 4
    """Sampled levels."""
    factor: int = 3
    """Delta in UOV: how many times fewer centres each level has than the one before."""
    neighbours: int = 20
    """Points of the finer level around a centre, itself included."""
    decoder_neighbours: int = 6
    """Centres that a point of the finer level takes labels from."""
    directions: int = 20
    """Beta in UOV: directions that the surroundings of a centre are divided into."""
    line_cosine: float = 0.995
    """Gamma in UOV: two directions lie on one line if the |cosine| between them is larger."""
    least_count: int = 0
    """Alpha in UOV: directions with this many neighbours or fewer count as empty."""

    def __post_init__(self) -> None:
        if min(self.stages, self.factor, self.neighbours, self.decoder_neighbours) < 1:
            raise InputError(f"stages, factor and neighbours must be 1 or more: {self}")
        if self.directions < 2 or not 0 <= self.line_cosine < 1 or self.least_count < 0:
            raise InputError(
                "directions must be 2 or more, line_cosine in [0, 1), least_count 0 or more: "
                f"{self}"
            )
        sizes = self.level_sizes
        if sizes[-1] < self.decoder_neighbours or min(sizes[:-1], default=self.neighbours) < (
            self.neighbours
        ):
            raise InputError(
                f"levels of {', '.join(map(str, sizes))} centres have too few for {self.neighbours}"
                f" neighbours each, or the last for {self.decoder_neighbours} in the decoder"
            )

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Centres of every sampled level, finest first."""
        return tuple(self.points // self.factor**level for level in range(1, self.stages + 1))


PUBLISHED = FlatInteraction()
