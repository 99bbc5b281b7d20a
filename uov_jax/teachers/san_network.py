"""SAN's network with the names of the official checkpoint (Xu et al., arXiv 2302.12242).

CLIP ViT-L/14@336 looks at a reduced image; a small vision transformer beside it, into which CLIP's
features are fused, proposes masks and biases the attention of CLIP's last blocks, so that a copy of
the class token looks at each proposal. Inference only.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import timm
import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d
from torch import nn

from uov_jax.teachers.attention import clip_blocks, run_block
from uov_jax.teachers.text import TextTower

CLIP_WIDTH = 1024
CLIP_HEADS = 16
CLIP_PATCH = 14
CLIP_GRID = 24  # of the position embedding: 336 pixels
FIRST_RECOGNITION_BLOCK = 18
RECOGNITION_BLOCKS = 6
CLIP_SCALE = 0.7  # size of CLIP's input relative to the side network's
SIDE_WIDTH = 240
SIDE_PATCH = 16
SIDE_GRID = 40  # of the position embedding: 640 pixels
NUM_QUERIES = 100
EMBEDDING_SIZE = 768
MASK_WIDTH = 256
# Side block after which (0: before the first) features are fused, and the CLIP block they are of.
FUSION = {0: 0, 1: 6, 2: 12, 3: 18}
BLOCKED = -100.0  # the official bias between tokens that must not see each other


class ClipFeatures(NamedTuple):
    """Patch features [B, 1024, h, w] by CLIP block; the class token [B, 1, 1024] of the last."""

    patches: dict[int, torch.Tensor]
    class_token: torch.Tensor


class Proposals(NamedTuple):
    """Mask logits [B, 100, h, w] and the attention bias [B, 16, 100, h, w] of every query."""

    masks: torch.Tensor
    bias: torch.Tensor


class ClipExtractor(nn.Module):
    """The first 18 blocks of CLIP's image tower."""

    def __init__(self) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.empty(CLIP_WIDTH))
        self.positional_embedding = nn.Parameter(torch.empty(CLIP_GRID**2 + 1, CLIP_WIDTH))
        self.conv1 = nn.Conv2d(3, CLIP_WIDTH, CLIP_PATCH, CLIP_PATCH, bias=False)
        self.ln_pre = nn.LayerNorm(CLIP_WIDTH)
        self.resblocks = clip_blocks(FIRST_RECOGNITION_BLOCK, CLIP_WIDTH, CLIP_HEADS)

    def forward(self, image: torch.Tensor) -> ClipFeatures:
        """Features of normalised images [B, 3, H, W]; what does not fill a patch is left out."""
        # Under autocast too: see `clip_vision.embed_patches`.
        with torch.autocast(image.device.type, enabled=False):
            patches = self.conv1(image)
        grid = patches.shape[-2:]
        token = self.class_embedding.expand(len(image), 1, -1)
        x = torch.cat([token, patches.flatten(2).transpose(1, 2)], dim=1)
        position = self.positional_embedding
        around = resized_positions(position[None, 1:], CLIP_GRID, grid)
        x = self.ln_pre(x + torch.cat([position[None, :1], around], dim=1))
        kept = {0: _as_map(x[:, 1:], grid)}
        for number, block in enumerate(self.resblocks, start=1):
            x = run_block(block, x)
            if number in FUSION.values():
                kept[number] = _as_map(x[:, 1:], grid)
        return ClipFeatures(kept, x[:, :1])


class RecognitionHead(nn.Module):
    """The last six blocks: an embedding in CLIP's text space for every proposal."""

    def __init__(self) -> None:
        super().__init__()
        self.resblocks = clip_blocks(RECOGNITION_BLOCKS, CLIP_WIDTH, CLIP_HEADS)
        self.ln_post = nn.LayerNorm(CLIP_WIDTH)
        self.proj = nn.Parameter(torch.empty(CLIP_WIDTH, EMBEDDING_SIZE))

    def forward(self, features: ClipFeatures, bias: torch.Tensor) -> torch.Tensor:
        """Unit embeddings [B, 100, 768]; the bias [B, 16, 100, h, w] is as the adapter gives it.

        The official code runs all tokens through one attention with a mask of
        (100 + 1 + patches)^2 for each head. In it a query sees itself, the patches with its bias,
        and everything else with -100; image tokens see the queries with -100, which is nothing in
        float32. So the image tokens run alone here, and the queries beside them.
        """
        image = features.patches[FIRST_RECOGNITION_BLOCK]
        bias = F.adaptive_max_pool2d(bias.flatten(1, 2), image.shape[-2:])
        bias = bias.unflatten(1, (-1, NUM_QUERIES)).flatten(3)
        blocked = bias.new_full((NUM_QUERIES, NUM_QUERIES + 1), BLOCKED)
        blocked.fill_diagonal_(0)
        bias = torch.cat([blocked.expand(*bias.shape[:2], -1, -1), bias], dim=-1)
        tokens = torch.cat([features.class_token, image.flatten(2).transpose(1, 2)], dim=1)
        queries = features.class_token.expand(-1, NUM_QUERIES, -1)
        for number, block in enumerate(self.resblocks, start=1):
            seen = torch.cat([queries, tokens], dim=1)
            queries = run_block(block, queries, seen, bias)
            if number < len(self.resblocks):  # nobody looks at the image after the last one
                tokens = run_block(block, tokens)
        with torch.autocast(queries.device.type, enabled=False):
            return F.normalize(self.ln_post(queries) @ self.proj, dim=-1)


class MultiLayerPerceptron(nn.Module):
    """Three layers over vectors [..., C], or as 1 x 1 convolutions over maps [B, C, h, w]."""

    def __init__(self, sizes: tuple[int, int, int, int], over_maps: bool) -> None:
        super().__init__()
        pairs = list(zip(sizes, sizes[1:], strict=False))
        self.layers = nn.ModuleList(
            nn.Conv2d(c, d, 1) if over_maps else nn.Linear(c, d) for c, d in pairs
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """ReLU after every layer but the last."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        last: torch.Tensor = self.layers[-1](x)
        return last


class MaskDecoder(nn.Module):
    """Masks and attention biases as products of queries and pixels."""

    def __init__(self) -> None:
        super().__init__()
        width = MASK_WIDTH
        self.query_mlp = MultiLayerPerceptron((SIDE_WIDTH, width, width, width), over_maps=False)
        self.pix_mlp = MultiLayerPerceptron((SIDE_WIDTH, width, width, width), over_maps=True)
        heads = CLIP_HEADS * width
        self.attn_mlp = MultiLayerPerceptron((SIDE_WIDTH, width, width, heads), over_maps=True)
        self.bias_scaling = nn.Linear(1, 1)

    def forward(self, queries: torch.Tensor, pixels: torch.Tensor) -> Proposals:
        """Proposals of queries [B, 100, 240] over pixels [B, 240, h, w]."""
        queries = self.query_mlp(queries)
        masks = torch.einsum("bqc,bchw->bqhw", queries, self.pix_mlp(pixels))
        heads = self.attn_mlp(pixels).unflatten(1, (CLIP_HEADS, MASK_WIDTH))
        bias = torch.einsum("bqc,bnchw->bnqhw", queries, heads)
        return Proposals(masks, bias * self.bias_scaling.weight[0, 0] + self.bias_scaling.bias)


class FusionLayer(nn.Module):
    """CLIP's features, reduced and resized, to be added to the side network's."""

    def __init__(self) -> None:
        super().__init__()
        norm = LayerNorm2d(CLIP_WIDTH, eps=1e-6)
        self.input_proj = nn.Sequential(norm, nn.Conv2d(CLIP_WIDTH, SIDE_WIDTH, 1))

    def forward(self, features: torch.Tensor, grid: torch.Size) -> torch.Tensor:
        """Tokens [B, h w, 240] on another grid."""
        resized = F.interpolate(self.input_proj(features), tuple(grid), mode="bilinear")
        return resized.flatten(2).transpose(1, 2)


class SideAdapter(nn.Module):
    """The side network: queries and patches of the image through eight narrow blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.query_embed = nn.Parameter(torch.empty(1, NUM_QUERIES, SIDE_WIDTH))
        self.query_pos_embed = nn.Parameter(torch.empty(1, NUM_QUERIES, SIDE_WIDTH))
        vit: Any = timm.create_model(
            "vit_tiny_patch16_224",
            img_size=SIDE_GRID * SIDE_PATCH,
            embed_dim=SIDE_WIDTH,
            depth=8,
            num_heads=6,
            class_token=False,
            global_pool="",
            final_norm=False,
            fc_norm=False,
            num_classes=0,
        )
        self.vit_model = vit
        self.fusion_layers = nn.ModuleDict({f"layer_{k}": FusionLayer() for k in FUSION})
        self.mask_decoder = MaskDecoder()

    def forward(self, image: torch.Tensor, features: ClipFeatures) -> Proposals:
        """Proposals for normalised images [B, 3, H, W], on the grid of 16-pixel patches."""
        # Its masks choose the words: half precision would move their edges. And the biases reach
        # some hundreds, for which it has no room.
        with torch.autocast(image.device.type, enabled=False):
            proposals: Proposals = self.mask_decoder(*self.tokens(image, features))
        return proposals

    def tokens(
        self, image: torch.Tensor, features: ClipFeatures
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries [B, 100, 240] and pixels [B, 240, h, w] after the last block."""
        patches = self.vit_model.patch_embed.proj(image)
        grid = patches.shape[-2:]
        around = resized_positions(self.vit_model.pos_embed, SIDE_GRID, grid)
        position = torch.cat([self.query_pos_embed, around], dim=1)
        queries = self.query_embed.expand(len(image), -1, -1)
        x = torch.cat([queries, patches.flatten(2).transpose(1, 2)], dim=1) + position
        x = self._fuse(0, x, features, grid)
        for number, block in enumerate(self.vit_model.blocks, start=1):
            x = self._fuse(number, block(x), features, grid)
            if number < len(self.vit_model.blocks):
                x = x + position
        return x[:, :NUM_QUERIES], _as_map(x[:, NUM_QUERIES:], grid)

    def _fuse(
        self, number: int, x: torch.Tensor, features: ClipFeatures, grid: torch.Size
    ) -> torch.Tensor:
        if number not in FUSION:
            return x
        added = self.fusion_layers[f"layer_{number}"](features.patches[FUSION[number]], grid)
        return torch.cat([x[:, :NUM_QUERIES], x[:, NUM_QUERIES:] + added], dim=1)


class Classifier(TextTower):
    """The text tower, and a learned vector for what no word names."""

    def __init__(self) -> None:
        super().__init__()
        self.bg_embed = nn.Parameter(torch.empty(1, EMBEDDING_SIZE))

    def rows(self, text: torch.Tensor) -> torch.Tensor:
        """Weights [W + 1, 768] of the class logits for unit text rows [W, 768], background last."""
        rows = F.normalize(torch.cat([text, self.bg_embed]), dim=-1)
        return self.logit_scale.exp() * rows


class SanNetwork(nn.Module):
    """All of SAN; `state_dict` has the official names."""

    def __init__(self) -> None:
        super().__init__()
        self.clip_visual_extractor = ClipExtractor()
        self.clip_rec_head = RecognitionHead()
        self.side_adapter_network = SideAdapter()
        self.ov_classifier = Classifier()

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mask logits float32[B, 100, h, w], unit embeddings float32[B, 100, 768] of proposals.

        Args:
            image: [B, 3, H, W], normalised and padded to a multiple of 32.

        """
        # By factor, not by size: it steps by 1 / 0.7, as the official code does.
        reduced = F.interpolate(image, scale_factor=CLIP_SCALE, mode="bilinear")
        features = self.clip_visual_extractor(reduced)
        masks, bias = self.side_adapter_network(image, features)
        embeddings: torch.Tensor = self.clip_rec_head(features, bias)
        return masks, embeddings


def resized_positions(positions: torch.Tensor, side: int, grid: torch.Size) -> torch.Tensor:
    """Position embeddings [1, side side, C] on another grid of h x w: [1, h w, C], bicubic."""
    if tuple(grid) == (side, side):
        return positions
    square = positions.unflatten(1, (side, side)).permute(0, 3, 1, 2)
    return F.interpolate(square, tuple(grid), mode="bicubic").flatten(2).transpose(1, 2)


def _as_map(tokens: torch.Tensor, grid: torch.Size) -> torch.Tensor:
    return tokens.transpose(1, 2).unflatten(2, tuple(grid))
