"""Word probabilities of FC-CLIP's queries: the trained and CLIP's own classifier, joined.

Yu et al., FC-CLIP, 2023, section 3.3: a geometric mean that trusts CLIP more on words that the
training did not see.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib import resources

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SEEN_SHARE = 0.4  # CLIP's exponent on words of COCO, alpha in the paper
UNSEEN_SHARE = 0.8  # and on all others, beta
LARGEST_SCALE = 100.0


def word_logits(embeddings: Tensor, rows: Tensor, log_scale: Tensor) -> Tensor:
    """float32[..., W]: scaled cosines of embeddings float32[..., D] and unit rows float32[W, D]."""
    scale = log_scale.exp().clamp(max=LARGEST_SCALE)
    return scale * F.normalize(embeddings, dim=-1) @ rows.T


def join_vocabularies(trained: Tensor, clip: Tensor, seen: Tensor) -> Tensor:
    """float32[..., W + 1]: log-probabilities, void last.

    Args:
        trained: float32[..., W + 1], logits of the trained classifier, void last.
        clip: float32[..., W], logits of CLIP's classifier.
        seen: bool[W], whether the word was among those of the training.

    """
    share = torch.where(seen, SEEN_SHARE, UNSEEN_SHARE)
    # The reference multiplies powers of probabilities; logarithms do not underflow.
    joined = (1 - share) * trained[..., :-1].log_softmax(-1) + share * clip.log_softmax(-1)
    void = trained.softmax(-1)[..., -1:]
    probabilities = torch.cat([joined.softmax(-1) * (1 - void), void], dim=-1)
    return torch.log(probabilities + 1e-8)


def seen_in_coco(words: Iterable[str]) -> np.ndarray:
    """bool[W]: whether a word names a class of COCO panoptic, on which FC-CLIP was trained.

    Names with synonyms as the training was prompted with them; compared letter by letter.
    """
    names = json.loads(resources.files(__package__).joinpath("coco_panoptic.json").read_text())
    known = {name for synonyms in names for name in synonyms}
    return np.array([word in known for word in words], bool)
