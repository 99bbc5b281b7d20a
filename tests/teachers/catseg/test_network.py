"""CAT-Seg's official names, and every stage against the official code at made-up weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.teachers.catseg.made_up import KEYS, assert_close, template_rows
from tests.teachers.recipe import DATA, official_tensors
from uov_jax.teachers import TeacherOptions, clip_vision, create_teacher
from uov_jax.teachers.catseg import CatSeg, CatSegTeacher
from uov_jax.teachers.catseg.network import CLIP_MEAN, CLIP_STD, padded_size, squash
from uov_jax.teachers.regions import Resizing, region_sums, resized
from uov_jax.teachers.weights import WeightsError, load_weights, read_tensors
from uov_jax.vocabulary import load_vocabulary

DERIVED = ("relative_position_index", "attn_mask")
SIZE = (900, 1600)


def test_state_dict_is_the_official_one():
    with torch.device("meta"):
        network = CatSeg()
    state = network.state_dict()
    found = {n: (tuple(v.shape), str(v.dtype).removeprefix("torch.")) for n, v in state.items()}
    assert found == official_tensors(KEYS)
    buffers = [name for name, _ in network.named_buffers()]
    assert all(name.endswith(DERIVED) for name in buffers)
    assert len(buffers) == 22 + 2


def write_official(path: Path, **changes: torch.Tensor) -> Path:
    """A file of the official names; its tensors are one number each, expanded."""
    tensors = {
        name: torch.tensor(0.01).to(getattr(torch, dtype)).expand(shape)
        for name, (shape, dtype) in official_tensors(KEYS).items()
    }
    torch.save({"model": tensors | changes, "iteration": 80_000}, path)
    return path


def test_an_official_file_is_loaded_strictly(tmp_path: Path):
    path = write_official(tmp_path / "large.pth")
    with torch.device("meta"):
        network = CatSeg()
    load_weights(network, read_tensors(path), path)
    assert not any(value.is_meta for value in network.state_dict().values())
    assert not any(value.is_meta for value in network.buffers())
    name = "backbone.layers.1.downsample.reduction.weight"
    path = write_official(tmp_path / "wrong.pth", **{name: torch.ones(512, 512)})
    message = rf"wrong\.pth: tensor '{name}' has the shape \(512, 512\), expected \(512, 1024\)"
    with pytest.raises(WeightsError, match=message):
        create_teacher("catseg", load_vocabulary(), TeacherOptions((path,), "cpu"))


def test_missing_weights_are_named_with_where_to_get_them():
    with pytest.raises(FileNotFoundError, match=r"model_final_large\.pth \(\d.* GB\), .*hamacojr"):
        create_teacher("catseg", load_vocabulary(), TeacherOptions())


@pytest.mark.parametrize(
    ("size", "padded"), [((900, 1600), (928, 1600)), ((32, 64), (32, 64)), ((1, 33), (32, 64))]
)
def test_images_are_padded_to_whole_patches(size, padded):
    assert padded_size(*size) == padded


# ---- the whole network --------------------------------------------------------------------------

SLICES: dict[str, tuple[str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "backbone": ("swin_in_slice", lambda x: x[0, :, ::16, ::16]),
    "sem_seg_head.predictor.clip_model.visual.conv1": (
        "clip_in_slice",
        lambda x: x[0, :, ::14, ::14],
    ),
    "sem_seg_head.predictor.transformer.conv1": ("corr", lambda x: x[:5, :8]),
}
OUTPUTS: dict[str, tuple[str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "conv1": ("corr_embed", lambda x: x[:5, :8, ::2, ::2]),
    "guidance_projection": ("guidance", lambda x: x[0, :8]),
    "text_guidance_projection": ("text_guidance", lambda x: x[:20]),
    "decoder_guidance_projection.0": ("decoder_guidance0", lambda x: x[0, :4, ::2, ::2]),
    "decoder_guidance_projection.1": ("decoder_guidance1", lambda x: x[0, :4, ::4, ::4]),
    "layers.0.swin_block": ("swinblock0", lambda x: x.permute(3, 0, 1, 2)[:8, :5, ::2, ::2]),
    "layers.0": ("layer0", lambda x: x.permute(3, 0, 1, 2)[:8, :5, ::2, ::2]),
    "layers.1": ("layer1", lambda x: x.permute(3, 0, 1, 2)[:8, :5, ::2, ::2]),
    "decoder1": ("decoder1", lambda x: x[:5, :4, ::4, ::4]),
    "decoder2": ("decoder2", lambda x: x[:5, :4, ::8, ::8]),
}


@pytest.fixture(scope="module")
def run(catseg_network: CatSeg, front_image: np.ndarray) -> dict[str, Any]:
    """What the teacher says of the image, and what went through its network on the way."""
    seen: dict[str, Any] = {}
    hooks = []
    for place, (name, cut) in SLICES.items():
        hooks.append(
            catseg_network.get_submodule(place).register_forward_pre_hook(
                lambda _, inputs, name=name, cut=cut: keep(seen, name, cut(inputs[0]))
            )
        )
    for place, (name, cut) in OUTPUTS.items():
        module = catseg_network.get_submodule(f"sem_seg_head.predictor.transformer.{place}")
        hooks.append(
            module.register_forward_hook(
                lambda _, inputs, out, name=name, cut=cut: keep(seen, name, cut(out))
            )
        )
    hooks.append(
        catseg_network.register_forward_hook(lambda _, inputs, out: seen.update(output=out))
    )
    teacher = CatSegTeacher(catseg_network, template_rows(), stretch_padding=True)
    (seen["segmentation"],) = teacher.segment([front_image])
    seen["text"] = teacher.text_embeddings
    for hook in hooks:
        hook.remove()
    return seen


def keep(seen: dict[str, Any], name: str, value: torch.Tensor) -> None:
    """Keep the first of the calls, which is of the first words."""
    seen.setdefault(name, value.clone())


@pytest.mark.slow
def test_every_stage_of_the_network_is_the_official_one(run, measured, front_image):
    assert hashlib.sha256(front_image.tobytes()).hexdigest() == str(measured["image_sha256"])
    for name, _ in (*SLICES.values(), *OUTPUTS.values()):
        assert_close(run[name], measured[name], name)
    logits, embeddings = run["output"]
    assert logits.shape == (175, 96, 96)
    assert_close(logits[:5], measured["mask_logits_c5"], "mask_logits_c5")
    assert_close(logits[:, ::8, ::8], measured["mask_logits_all_stride8"], "mask_logits_all")
    assert_close(run["text"][:10], measured["text_emb_10"], "text_emb_10")
    # Rows 1, 9, ... of clip_dense are patches; row 0 is the class token, which has no place here.
    patches = embeddings.flatten(1).T[7::8, :64]
    assert_close(patches, measured["clip_dense"][1:], "clip_dense")


@pytest.mark.slow
def test_scores_of_every_pixel_are_the_official_ones(run, measured):
    logits, embeddings = run["output"]
    stretched = Resizing(SIZE, SIZE)
    scores = resized(logits.sigmoid(), stretched)[:, ::4, ::4]
    assert_close(scores[:20, ::5, ::5], measured["sem_seg_20"], "scores")
    # Half precision in the fixture: 2^-11 of each value.
    best, second = scores.topk(2, dim=0).values
    np.testing.assert_allclose(best, measured["top1_stride4"], rtol=1e-3)
    np.testing.assert_allclose(best - second, measured["margin_stride4"], rtol=1e-3, atol=1e-5)
    dense = resized(embeddings[:16], stretched)[:, ::90, ::160]
    assert_close(dense, measured["image_emb_slice"], "dense embeddings")


@pytest.mark.slow
def test_the_dumped_masks_words_and_embeddings_are_the_official_ones(run, measured):
    found = run["segmentation"]
    assert (found.masks == measured["seg_map"]).mean() > 0.999
    segments = json.loads((DATA / "catseg_CAM_FRONT.json").read_text())
    assert found.words.tolist() == [segment["category_id"] for segment in segments]
    assert np.unique(found.masks).tolist() == [segment["id"] for segment in segments]
    areas = np.bincount(found.masks.ravel())[1:]
    np.testing.assert_allclose(areas, measured["areas"], atol=1e-4 * found.masks.size)
    np.testing.assert_allclose(found.embeddings, measured["mask_emb"][1:], atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(found.embeddings, axis=1), 1, rtol=1e-5)
    # The same masks give the same embeddings: above, a pixel that changes sides moves those of
    # masks of some 20 pixels.
    embeddings = run["output"].embeddings.numpy()
    sums = region_sums(measured["seg_map"].astype(np.int64), 175, embeddings, SIZE)
    rows = F.normalize(torch.from_numpy(sums), dim=1)
    assert_close(rows, measured["mask_emb"][1:], "mask_emb on the measured masks")


@pytest.mark.slow
def test_the_class_token_is_the_official_one(catseg_network, measured, front_image):
    pixels = torch.tensor(front_image).permute(2, 0, 1).float()
    small = squash(pixels, CLIP_MEAN, CLIP_STD, clip_vision.RESOLUTION)
    with torch.inference_mode():
        tokens = clip_vision.dense_embeddings(catseg_network.clip.visual, small, whole_block=True)[
            0
        ]
    assert_close(tokens[0], measured["clip_dense_cls"], "clip_dense_cls")
    assert_close(tokens[::8, :64], measured["clip_dense"], "clip_dense")
