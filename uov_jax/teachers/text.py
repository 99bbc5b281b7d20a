"""Words to vectors: prompts, CLIP's text tower, and a cache of what it said.

Templates: the 14 of ViLD (Gu et al., "Open-vocabulary Object Detection via Vision and Language
Knowledge Distillation", 2022), and the 80 of CLIP for ImageNet (Radford et al., 2021).
"""

from __future__ import annotations

import errno
import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from open_clip import OPENAI_IMAGENET_TEMPLATES
from open_clip.tokenizer import SimpleTokenizer
from torch import nn

from uov_jax.bar import Bar
from uov_jax.contents import parse_npz
from uov_jax.errors import InputError
from uov_jax.files import DAMAGE, write_npz
from uov_jax.teachers.attention import clip_blocks, run_block
from uov_jax.user_cache import user_cache_directory

CONTEXT_LENGTH = 77
VOCABULARY_SIZE = 49_408
BATCH = 64
QUIET = 500  # prompts that take no longer than a few seconds need no progress bar
CACHE_VERSION = 1

VILD_TEMPLATES = (
    "a photo of a {}.",
    "This is a photo of a {}",
    "There is a {} in the scene",
    "There is the {} in the scene",
    "a photo of a {} in the scene",
    "a photo of a small {}.",
    "a photo of a medium {}.",
    "a photo of a large {}.",
    "This is a photo of a small {}.",
    "This is a photo of a medium {}.",
    "This is a photo of a large {}.",
    "There is a small {} in the scene.",
    "There is a medium {} in the scene.",
    "There is a large {} in the scene.",
)
IMAGENET_TEMPLATES = tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)


class TextTower(nn.Module):
    """CLIP's text transformer with the names of the official state_dicts.

    Any module with these attributes is one for `encode_prompts`, open_clip's own CLIP among them.
    """

    def __init__(
        self, width: int = 768, layers: int = 12, heads: int = 12, quick_gelu: bool = True
    ) -> None:
        """ViT-L/14's tower by default; its outputs have `width` dimensions too."""
        super().__init__()
        self.token_embedding = nn.Embedding(VOCABULARY_SIZE, width)
        self.positional_embedding = nn.Parameter(torch.empty(CONTEXT_LENGTH, width))
        self.transformer = nn.Module()
        self.transformer.resblocks = clip_blocks(layers, width, heads, quick_gelu)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, width))
        self.logit_scale = nn.Parameter(torch.empty(()))
        self.register_buffer("attn_mask", torch.empty(CONTEXT_LENGTH, CONTEXT_LENGTH))


def word_embeddings(
    tower: Any,
    words: Sequence[str],
    templates: Sequence[str],
    weights_hash: str,
    cache: Path | None = None,
) -> np.ndarray:
    """float32[W, D], unit rows: the mean of a word's unit vectors over the templates, normalised.

    Arguments and errors are those of `template_embeddings`.
    """
    rows = torch.from_numpy(template_embeddings(tower, words, templates, weights_hash, cache))
    return F.normalize(rows.mean(1), dim=-1).numpy()


def template_embeddings(
    tower: Any,
    words: Sequence[str],
    templates: Sequence[str],
    weights_hash: str,
    cache: Path | None = None,
) -> np.ndarray:
    """float32[W, T, D], unit rows: one vector for every word in every template.

    A word that stands twice in `words` gets the same bits twice.

    Args:
        tower: see `encode_prompts`.
        words: W words, spelling and spaces as they are to be prompted.
        templates: T texts with one {} each.
        weights_hash: of the tower's weights; with the prompts it is the key of the cache.
        cache: the directory; `text` in the user's cache directory by default.

    Raises:
        InputError: a prompt is longer than the tower reads, or there is none.

    """
    if not words or not templates:
        raise InputError(f"no words or no templates to embed: {len(words)} and {len(templates)}")
    unique = list(dict.fromkeys(words))
    prompts = [template.format(word) for word in unique for template in templates]
    if cache is None and (own := user_cache_directory()) is not None:
        cache = own / "text"
    key = json.dumps([CACHE_VERSION, weights_hash, prompts]).encode()
    path = None if cache is None else cache / f"{hashlib.sha256(key).hexdigest()}.npz"
    rows = None if path is None else _read_cache(path, len(prompts))
    if rows is None:
        rows = F.normalize(encode_prompts(tower, prompts), dim=-1).numpy()
        _keep(path, rows)
    place = {word: number for number, word in enumerate(unique)}
    return rows.reshape(len(unique), len(templates), -1)[[place[word] for word in words]]


def first_of_equal_rows(rows: np.ndarray) -> np.ndarray:
    """int64[W]: for every row [W, D] the number of the first row equal to it, mostly its own.

    A word that stands twice in a vocabulary has one vector, and is taken for its first place.
    """
    _, first, same = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return first[same.ravel()]


@torch.inference_mode()
def encode_prompts(tower: Any, prompts: Sequence[str]) -> torch.Tensor:
    """float32[n, D] on the CPU: the text features of some prompts, not normalised.

    Args:
        tower: a `TextTower`, or what has its attributes; runs where its parameters are.
        prompts: the texts.

    Raises:
        InputError: a prompt is longer than the tower reads; names it.

    """
    tokens = tokenize(prompts)
    # Attention is causal: nothing behind a prompt's end matters, and prompts of like lengths
    # together need few steps behind it.
    order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
    device = tower.text_projection.device
    features: list[torch.Tensor] = [torch.empty(0)] * len(tokens)
    starts = range(0, len(order), BATCH)
    for start in Bar(starts, unit="batch", desc="prompts", disable=len(tokens) < QUIET):
        rows = order[start : start + BATCH]
        for row, feature in zip(
            rows, _encode(tower, [tokens[i] for i in rows], device), strict=True
        ):
            features[row] = feature
    return torch.stack(features)


def tokenize(prompts: Sequence[str]) -> list[list[int]]:
    """CLIP's token numbers of every prompt, from start to end mark, without padding.

    Raises:
        InputError: a prompt is longer than `CONTEXT_LENGTH`; names it.

    """
    tokenizer = SimpleTokenizer()
    tokens = []
    for prompt in prompts:
        row = [tokenizer.sot_token_id, *tokenizer.encode(prompt), tokenizer.eot_token_id]
        if len(row) > CONTEXT_LENGTH:
            raise InputError(
                f"the prompt {prompt!r} has {len(row)} tokens, CLIP reads {CONTEXT_LENGTH}: "
                "shorten the word"
            )
        tokens.append(row)
    return tokens


def _encode(tower: Any, tokens: list[list[int]], device: torch.device) -> torch.Tensor:
    longest = max(len(row) for row in tokens)
    padded = torch.tensor([row + [0] * (longest - len(row)) for row in tokens], device=device)
    x = tower.token_embedding(padded) + tower.positional_embedding[:longest]
    for block in tower.transformer.resblocks:
        x = run_block(block, x, causal=True)
    ends = torch.tensor([len(row) - 1 for row in tokens], device=device)
    x = tower.ln_final(x[torch.arange(len(tokens), device=device), ends])
    return (x @ tower.text_projection).float().cpu()


def _read_cache(path: Path, num_rows: int) -> np.ndarray | None:
    """The rows of an earlier run; None where there are none or the file is damaged."""
    try:
        rows = parse_npz(path.read_bytes())["rows"]
    except DAMAGE:
        return None
    whole = rows.ndim == 2 and len(rows) == num_rows and np.isfinite(rows).all()
    return rows if whole else None


def _keep(path: Path | None, rows: np.ndarray) -> None:
    """Write the cache; where that cannot be, a warning says so."""
    try:
        if path is None:
            raise FileNotFoundError(errno.ENOENT, "there is no home directory")
        _write_cache(path, rows)
    except OSError as error:
        place = "~/.cache" if path is None else path.parent
        warnings.warn(
            f"{place}: the words' embeddings cannot be kept there ({error.strerror or error}); "
            "they are computed every time. XDG_CACHE_HOME names another folder",
            stacklevel=3,
        )


def _write_cache(path: Path, rows: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_npz(path, {"rows": rows})
