"""CLIP's transformer blocks on PyTorch's fused attention, with the parameters of open_clip's.

`open_clip.transformer.ResidualAttentionBlock` holds the parameters under the official names; its
own `nn.MultiheadAttention` would build the whole matrix of attention weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import nn


def clip_blocks(count: int, width: int, heads: int, quick_gelu: bool = True) -> nn.ModuleList:
    """A stack of CLIP's residual attention blocks; OpenAI's weights need the quick GELU."""
    activation = QuickGELU if quick_gelu else nn.GELU
    return nn.ModuleList(
        ResidualAttentionBlock(width, heads, act_layer=activation) for _ in range(count)
    )


def attend(
    attention: nn.MultiheadAttention,
    queries: torch.Tensor,
    memory: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    causal: bool = False,
) -> torch.Tensor:
    """What `attention(queries, memory, memory, attn_mask=bias)` gives.

    Args:
        attention: its parameters.
        queries: [B, Q, C].
        memory: [B, L, C] keys and values; the queries themselves by default.
        bias: [B, heads, Q, L], or what broadcasts to it, added to the logits, which take its
            dtype; not together with `causal`.
        causal: each query sees itself and what is before it.

    Returns:
        [B, Q, C].

    """
    width = attention.embed_dim
    weight, offset = attention.in_proj_weight, attention.in_proj_bias
    if memory is None:
        query, key, value = F.linear(queries, weight, offset).chunk(3, dim=-1)
    else:
        query = F.linear(queries, weight[:width], offset[:width])
        key, value = F.linear(memory, weight[width:], offset[width:]).chunk(2, dim=-1)
    query, key, value = (_heads(part, attention.num_heads) for part in (query, key, value))
    if bias is None:
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=causal)
    else:
        # A bias of some hundreds has no fraction left in half precision.
        with torch.autocast(queries.device.type, enabled=False):
            query, key, value = (part.to(bias.dtype) for part in (query, key, value))
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    out: torch.Tensor = attention.out_proj(mixed.transpose(1, 2).flatten(2))
    return out


def _heads(tokens: torch.Tensor, count: int) -> torch.Tensor:
    """[B, L, C] to [B, heads, L, C / heads]."""
    return tokens.unflatten(-1, (count, -1)).transpose(1, 2)


def run_block(
    block: ResidualAttentionBlock,
    x: torch.Tensor,
    memory: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    causal: bool = False,
) -> torch.Tensor:
    """One pre-norm block on tokens [B, Q, C]; with `memory` [B, L, C] they attend to that."""
    memory = None if memory is None else block.ln_1(memory)
    x = x + attend(block.attn, block.ln_1(x), memory, bias, causal)
    return x + block.mlp(block.ln_2(x))
