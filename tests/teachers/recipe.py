"""Made-up weights of the measured teachers, from each tensor's official name and shape alone.

A fixed format, not to be improved: the fixtures were measured with it. Factors and offsets keep
random networks from giving one mask for the whole image, or none.
"""

from __future__ import annotations

import ast
import re
import zlib
from pathlib import Path

import numpy as np

DATA = Path(__file__).parents[1] / "fixtures"

# Queries, levels, background and void vectors have unit variance.
UNIT = (
    *("query_embed", "query_pos_embed", "query_embed.weight", "query_feat.weight", "level_embed"),
    *("level_embed.weight", "bg_embed", "void_embedding.weight"),
)
SMALL = (
    *("token_embedding.weight", "positional_embedding", "class_embedding", "pos_embed"),
    "relative_position_bias_table",
)
_TOWER = r"(visual\.transformer|clip_visual_extractor|clip_rec_head)\.resblocks\.\d+\."
_DECODER = r"side_adapter_network\.mask_decoder\."
_LAYER = r"predictor\.transformer_"
FACTORS = {
    _TOWER + r"mlp\.c_proj\.weight$": 0.1,
    r"(visual\.transformer|clip_visual_extractor)\.resblocks\.\d+\.attn\.out_proj\.weight$": 0.1,
    _DECODER + r"(query_mlp|pix_mlp|attn_mlp)\.layers\.\d+\.weight$": 0.7,
    _DECODER + r"bias_scaling\.weight$": 4.0,
    _LAYER
    + r"(self|cross)_attention_layers\.\d+\.(self_attn|multihead_attn)\.out_proj\.weight$": 0.1,
    _LAYER + r"ffn_layers\.\d+\.linear2\.weight$": 0.1,
    r"predictor\._mask_pooling_proj\.1\.weight$": 0.3,
}
OFFSETS = {
    "sem_seg_head.predictor.mask_embed.layers.2.bias": 0.2,
    "sem_seg_head.pixel_decoder.mask_features.bias": -0.2,
}


def tensor_for(name: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """The tensor that the reference was measured with."""
    if name.endswith("logit_scale"):
        return np.full(shape, np.log(100.0), np.float32)
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    z = np.asarray(rng.standard_normal(shape)).astype(np.float32)
    if name.endswith("running_var"):
        return np.float32(1) + np.float32(0.1) * np.abs(z)
    if name.endswith(("bias", "running_mean")):
        return np.float32(0.02) * z + np.float32(OFFSETS.get(name, 0.0))
    if name.endswith("gamma"):
        return np.float32(0.3) * (np.float32(1) + np.float32(0.1) * z)
    if name.endswith(UNIT):
        return z
    if name.endswith(SMALL):
        return np.float32(0.02) * z
    if len(shape) <= 1:
        return np.float32(1) + np.float32(0.1) * z
    return z * np.float32(_scale(name, shape))


def text_rows() -> np.ndarray:
    """float32[175, 768]: unit vectors that stand for nuScenes' words in place of the text tower."""
    rows = tensor_for("text_embedding", (175, 768), seed=8)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def official_tensors(teacher: str) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of every tensor of an official checkpoint, by its name."""
    tensors = {}
    for line in (DATA / f"{teacher}_keys.txt").read_text().splitlines():
        name, shape, dtype = re.fullmatch(r"(\S+) (\(.*\)) (\w+)", line).groups()
        tensors[name] = (ast.literal_eval(shape), dtype)
    return tensors


def _scale(name: str, shape: tuple[int, ...]) -> float:
    scale = (1.0 / int(np.prod(shape[1:]))) ** 0.5
    for pattern, factor in FACTORS.items():
        if re.search(pattern, name):
            scale *= factor
    return scale
