"""SAN against the official code, stage by stage, at made-up weights on a real image."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.teachers.recipe import DATA, official_tensors, text_rows
from uov_jax.teachers import TeacherOptions, create_teacher
from uov_jax.teachers.clip_input import normalised
from uov_jax.teachers.san import (
    SanTeacher,
    load_network,
    mask_probabilities,
    resized,
)
from uov_jax.teachers.san_network import SanNetwork
from uov_jax.teachers.weights import WeightsError, read_tensors
from uov_jax.vocabulary import load_vocabulary

# Relative root mean square against the official code; float noise is up to 8e-6.
TOLERANCE = 1e-4
SIZE = (900, 1600)


@pytest.fixture(scope="module")
def measured() -> dict[str, np.ndarray]:
    with np.load(DATA / "san_CAM_FRONT.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def teacher(san_network: SanNetwork) -> SanTeacher:
    return SanTeacher(san_network, text_rows(), "w" * 64)


@pytest.fixture(scope="module")
def run(teacher: SanTeacher, san_network: SanNetwork, front_image: np.ndarray) -> dict[str, Any]:
    """What the teacher says of the image, and what went through its network on the way."""
    seen: dict[str, Any] = {}
    clip, side = san_network.clip_visual_extractor, san_network.side_adapter_network
    hooks = [
        clip.register_forward_hook(
            lambda _, inputs, out: seen.update(clip_input=inputs[0], clip=out)
        ),
        side.register_forward_hook(lambda _, inputs, out: seen.update(image=inputs[0], side=out)),
        side.mask_decoder.register_forward_pre_hook(lambda _, inputs: seen.update(decoder=inputs)),
        san_network.register_forward_hook(lambda _, inputs, out: seen.update(out=out)),
    ]
    (seen["segmentation"],) = teacher.segment([front_image])
    for hook in hooks:
        hook.remove()
    return seen


def assert_close(found: torch.Tensor | np.ndarray, expected: np.ndarray, name: str) -> None:
    found = np.asarray(found, np.float64)
    assert found.shape == expected.shape, name
    error = np.sqrt(((found - expected) ** 2).mean() / (expected.astype(np.float64) ** 2).mean())
    assert error < TOLERANCE, f"{name}: {error:.1e}"


def test_preprocessing_is_the_official_one(front_image, measured):
    assert hashlib.sha256(front_image.tobytes()).hexdigest() == str(measured["image_sha256"])
    small = np.ascontiguousarray(resized(front_image).transpose(2, 0, 1))
    assert small.shape == (3, 640, 1137)
    np.testing.assert_array_equal(small[:, ::40, ::60], measured["resized_slice"])
    assert hashlib.sha256(small.tobytes()).hexdigest() == str(measured["resized_sha256"])
    padded = normalised(resized(front_image))
    assert padded.shape == (3, 640, 1152)
    assert_close(padded[:, ::40, ::48], measured["image_padded_slice"], "padded image")


def test_every_stage_of_the_network_is_the_official_one(run, measured):
    assert list(run["clip_input"].shape) == measured["clip_input_shape"].tolist()
    patches, token = run["clip"]
    assert list(patches[0].shape[-2:]) == measured["clip_grid"].tolist()
    queries, pixels = run["decoder"]
    masks, bias = run["side"]
    stages = {
        "clip_input_slice": run["clip_input"][0, :, ::28, ::31],
        **{f"clip_layer{k}": patches[k][0, :8, ::2, ::3] for k in (0, 6, 12, 18)},
        "clip_layer18_cls": token[0, 0],
        "side_x": pixels[0, :8, ::2, ::3],
        "side_query": queries[0, :, :16],
        "mask_logits_q5": masks[0, :5],
        "mask_logits_all_stride8": masks[0, :, ::8, ::8],
        "attn_bias_q5h4": bias[0, :4, :5, ::2, ::2],
        "mask_emb_queries": run["out"][1][0],
    }
    for name, found in stages.items():
        assert_close(found, measured[name], name)


def test_class_logits_are_the_official_ones(run, measured, san_network):
    rows = san_network.ov_classifier.rows(torch.from_numpy(text_rows()))
    logits = run["out"][1][0] @ rows.T
    assert_close(logits[:, :20], measured["class_logits"], "class logits")
    assert_close(logits[:, -1], measured["class_logits_last"], "background logit")
    np.testing.assert_allclose(text_rows()[0], measured["text_emb_row0"], rtol=1e-6)


def test_scores_of_every_pixel_are_the_official_ones(run, measured, teacher):
    masks, embeddings = (out[0] for out in run["out"])
    pixels = torch.cat([part[..., ::20] for _, part in mask_probabilities(masks, SIZE)], dim=1)
    probabilities = teacher.word_probabilities(embeddings)
    scores = torch.einsum("qw,qhv->whv", probabilities, pixels[:, ::20])
    assert_close(scores[:20], measured["sem_seg_20"], "scores")
    # Half precision in the fixture: 2^-11 of each value.
    top = scores.amax(0).numpy()
    np.testing.assert_allclose(top, measured["top1_stride4"][::5, ::5], rtol=1e-3)
    features = torch.einsum("qhv,qc->hvc", pixels[:, ::90, ::8], embeddings[:, :16])
    assert_close(features, measured["image_emb_slice"], "dense embeddings")


def test_the_dumped_masks_words_and_embeddings_are_the_official_ones(run, measured):
    found = run["segmentation"]
    assert (found.masks == measured["seg_map"]).mean() > 0.999
    segments = json.loads((DATA / "san_CAM_FRONT.json").read_text())
    assert found.words.tolist() == [segment["category_id"] for segment in segments]
    assert np.unique(found.masks).tolist() == [segment["id"] for segment in segments]
    areas = np.bincount(found.masks.ravel())[1:]
    np.testing.assert_allclose(areas, measured["areas"], atol=0.0005 * found.masks.size)
    np.testing.assert_allclose(found.embeddings, measured["mask_emb"][1:], atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(found.embeddings, axis=1), 1, rtol=1e-5)


def test_images_of_a_batch_do_not_see_each_other(san_network):
    images = torch.randn(3, 3, 128, 160, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        masks, embeddings = san_network(images)
        alone = [san_network(image[None]) for image in images]
    assert masks.shape == (3, 100, 8, 10)
    for number, (one_masks, one_embeddings) in enumerate(alone):
        assert_close(masks[number], one_masks[0].numpy(), "masks")
        assert_close(embeddings[number], one_embeddings[0].numpy(), "embeddings")


def test_rows_can_be_taken_any_number_at_a_time():
    masks = torch.randn(3, 40, 72, generator=torch.Generator().manual_seed(0))
    whole = torch.cat([part for _, part in mask_probabilities(masks, SIZE, 900)], dim=1)
    parts = torch.cat([part for _, part in mask_probabilities(masks, SIZE, 77)], dim=1)
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)
    resize = torch.nn.functional.interpolate
    padded = resize(masks[None], (640, 1152), mode="bilinear")[..., :1137]
    expected = resize(padded, SIZE, mode="bilinear")[0].sigmoid()
    torch.testing.assert_close(whole, expected, rtol=1e-5, atol=1e-5)


def test_words_with_one_vector_are_the_first_of_them(san_network):
    text = text_rows()[:6]
    text[4] = text[1]
    teacher = SanTeacher(san_network, text, "w")
    masks = torch.randn(100, 40, 72, generator=torch.Generator().manual_seed(1)) * 10
    embeddings = torch.from_numpy(np.repeat(text[[1, 4, 2, 0]], 25, axis=0))
    found = teacher._segmentation(masks, embeddings, SIZE)
    assert {1}.issubset(found.words.tolist())
    assert 4 not in found.words


# ---- weights ------------------------------------------------------------------------------------


def test_state_dict_is_the_official_one():
    with torch.device("meta"):
        state = SanNetwork().state_dict()
    found = {n: (tuple(v.shape), str(v.dtype).removeprefix("torch.")) for n, v in state.items()}
    expected = official_tensors("san_vit_large_14")
    # The weights of the training loss; inference has no use for them.
    del expected["criterion.empty_weight"]
    assert found == expected


def write_official(path: Path, **changes: torch.Tensor) -> Path:
    """A file of the official names; its tensors are one number each, expanded."""
    tensors = {
        name: torch.tensor(0.01, dtype=getattr(torch, dtype)).expand(shape)
        for name, (shape, dtype) in official_tensors("san_vit_large_14").items()
    }
    torch.save({"model": tensors | changes, "iteration": 60_000}, path)
    return path


def test_an_official_file_is_loaded_strictly(tmp_path):
    path = write_official(tmp_path / "san.pth")
    network = load_network(read_tensors(path), str(path))
    assert not any(value.is_meta for value in network.state_dict().values())
    assert not list(network.buffers())[0].is_meta
    name = "clip_rec_head.proj"
    path = write_official(tmp_path / "wrong.pth", **{name: torch.ones(1024, 512)})
    message = rf"wrong\.pth: tensor '{name}' has the shape \(1024, 512\), expected \(1024, 768\)"
    with pytest.raises(WeightsError, match=message):
        create_teacher("san", load_vocabulary(), TeacherOptions((path,), "cpu"))


def write_vocabulary(path: Path, words: list[str]) -> Path:
    """A user's own file, every word a class of its own but for the one that stands twice."""
    classes = list(dict.fromkeys(words))
    groups = [
        {
            "raw_index": 1 + classes.index(word),
            "eval_class": 1 + classes.index(word),
            "words": [word],
        }
        for word in words
    ]
    content = {"eval_classes": ["ignore", *classes], "groups": groups}
    path.write_text(json.dumps(content))
    return path


@pytest.mark.slow
def test_the_teacher_is_made_of_its_file_and_a_users_own_words(tmp_path, san_network, monkeypatch):
    """Writes 1.75 GB."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "san_vit_large_14.pth"
    torch.save({"model": san_network.state_dict()}, path)
    with np.load(DATA / "san_text.npz") as file:
        words, expected = file["words"].tolist(), file["embeddings"]
    vocabulary = load_vocabulary(write_vocabulary(tmp_path / "words.json", words))
    teacher = create_teacher("san", vocabulary, TeacherOptions((path,), "cpu"))
    with path.open("rb") as file:
        assert teacher.weights_hash == hashlib.file_digest(file, "sha256").hexdigest()
    np.testing.assert_allclose(teacher.text_embeddings, expected, atol=2e-6)


def test_missing_weights_are_named_with_where_to_get_them():
    with pytest.raises(FileNotFoundError, match=r"san_vit_large_14\.pth \(1\.75 GB\), .*Mendel192"):
        create_teacher("san", load_vocabulary(), TeacherOptions())


def test_images_of_another_kind_are_refused(teacher):
    image = np.zeros((90, 160, 3), np.uint8)
    for images, message in [
        ([image[..., 0]], r"expected an RGB image uint8\[H, W, 3\], found uint8 \(90, 160\)"),
        ([image, image[:80]], r"images of one size, found \[\(80, 160\), \(90, 160\)\]"),
        ([], r"images of one size, found \[\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            teacher.segment(images)
