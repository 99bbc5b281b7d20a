"""FC-CLIP as a teacher: official files, words, and what it hands over of a prediction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.teachers.fcclip.conftest import fcclip_tensors
from tests.teachers.recipe import DATA, official_tensors, tensor_for, text_rows
from uov_jax.teachers import TeacherOptions, create_teacher
from uov_jax.teachers.fcclip import FcClip, FcClipTeacher, Prediction
from uov_jax.teachers.fcclip.teacher import CLIP_PREFIX, load_network, read_official
from uov_jax.teachers.text import VILD_TEMPLATES, tokenize, word_embeddings
from uov_jax.teachers.weights import WeightsError
from uov_jax.vocabulary import Vocabulary, load_vocabulary

# What the released file leaves out.
TEXT_TOWER = tuple(CLIP_PREFIX + part for part in ("transformer.", "token_embedding.", "ln_final."))


@pytest.fixture(scope="module")
def network() -> FcClip:
    with torch.device("meta"):
        return FcClip()


def test_state_dict_is_the_official_one(network):
    found = {
        name: (tuple(value.shape), str(value.dtype).removeprefix("torch."))
        for name, value in network.state_dict().items()
    }
    expected = fcclip_tensors()
    # The weights of the training loss; inference has no use for them.
    del expected["criterion.empty_weight"]
    assert found == expected


# ---- official files -----------------------------------------------------------------------------


def expanded(number: float, *parts: str) -> dict[str, torch.Tensor]:
    """Tensors of some official lists; each is one number, so that its file is small."""
    return {
        name: torch.tensor(number, dtype=getattr(torch, dtype)).expand(shape)
        for part in parts
        for name, (shape, dtype) in official_tensors(part).items()
    }


def write_released(path: Path, **changes: torch.Tensor) -> Path:
    """The released file: head and CLIP's image tower."""
    tensors = expanded(0.5, "fcclip_head", "convnext_large_d_320") | changes
    kept = {name: value for name, value in tensors.items() if not name.startswith(TEXT_TOWER)}
    torch.save({"model": kept, "iteration": 327_778}, path)
    return path


def write_clip(path: Path) -> Path:
    """open_clip's file: all of CLIP under its own names."""
    tensors = expanded(0.25, "convnext_large_d_320")
    torch.save({name.removeprefix(CLIP_PREFIX): value for name, value in tensors.items()}, path)
    return path


def test_the_released_file_is_laid_over_that_of_open_clip(tmp_path):
    released = write_released(tmp_path / "fcclip_cocopan.pth")
    clip = write_clip(tmp_path / "open_clip_pytorch_model.bin")
    state = load_network(read_official([released, clip]), "files").state_dict()
    assert not any(value.is_meta for value in state.values())
    for name, value in state.items():
        expected = 0.25 if name.startswith(TEXT_TOWER) else 0.5
        assert value.flatten()[0] == expected, name


def test_one_file_that_holds_everything_will_do(tmp_path):
    path = tmp_path / "whole.pth"
    torch.save(expanded(0.5, "fcclip_head", "convnext_large_d_320"), path)
    network = load_network(read_official([path]), str(path))
    assert not any(value.is_meta for value in network.state_dict().values())
    assert not list(network.buffers())
    assert not network.training


def test_missing_files_are_named_with_where_to_get_them(tmp_path):
    clip = r"open_clip_pytorch_model\.bin \(1\.41 GB\), .*laion/CLIP-convnext_large_d_320"
    released = r"fcclip_cocopan\.pth \(0\.88 GB\), .*github\.com/bytedance/fc-clip"
    with pytest.raises(FileNotFoundError, match=rf"(?s){released}.*{clip}"):
        create_teacher("fcclip", load_vocabulary(), TeacherOptions())
    only = write_released(tmp_path / "fcclip_cocopan.pth")
    with pytest.raises(ValueError, match=rf"(?s)2 weight file\(s\), 1 given.*{clip}"):
        create_teacher("fcclip", load_vocabulary(), TeacherOptions((only,), "cpu"))
    with pytest.raises(FileNotFoundError, match=rf"nowhere: no such weight file.*\n.*{clip}"):
        read_official([only, tmp_path / "nowhere"])


def test_other_tensors_are_refused_by_name(tmp_path):
    name = "sem_seg_head.predictor.query_feat.weight"
    wrong = write_released(tmp_path / "wrong.pth", **{name: torch.ones(100, 256)})
    clip = write_clip(tmp_path / "clip.bin")
    message = rf"wrong\.pth with .*clip\.bin: tensor '{name}' has the shape \(100, 256\), expected"
    with pytest.raises(WeightsError, match=message):
        create_teacher("fcclip", load_vocabulary(), TeacherOptions((wrong, clip), "cpu"))
    with pytest.raises(WeightsError, match=r"tensor 'backbone\.clip_model\..* is missing"):
        load_network(read_official([clip, wrong]), "files in the wrong order")


# ---- words --------------------------------------------------------------------------------------


def test_word_embeddings_are_those_of_the_official_tower(network, tmp_path):
    clip = network.backbone.clip_model
    of_text = (*TEXT_TOWER, CLIP_PREFIX + "positional_embedding", CLIP_PREFIX + "text_projection")
    tensors = {
        name.removeprefix(CLIP_PREFIX): torch.from_numpy(tensor_for(name, shape))
        for name, (shape, _) in fcclip_tensors().items()
        if name.startswith(of_text)
    }
    clip.load_state_dict(tensors, strict=False, assign=True)
    with np.load(DATA / "fcclip_text.npz") as file:
        measured = dict(file)
    words = measured["words"].tolist()
    assert list(VILD_TEMPLATES) == measured["templates"].tolist()
    tokens = tokenize([VILD_TEMPLATES[0].format(word) for word in words])
    for row, expected in zip(tokens, measured["tokens_template0"], strict=True):
        np.testing.assert_array_equal(row, expected[expected != 0])
    # Float noise between two builds of PyTorch, of unit rows of 768 numbers.
    found = word_embeddings(clip, words, VILD_TEMPLATES, "recipe", tmp_path)
    np.testing.assert_allclose(found, measured["embeddings"], atol=3e-6)


# ---- predictions --------------------------------------------------------------------------------


class Predicting(nn.Module):
    """In the place of the network: two masks, left and right, and void."""

    def __init__(self, vocabulary: Vocabulary, words: tuple[int, int]) -> None:
        super().__init__()
        self.probabilities = torch.full((1, 3, len(vocabulary) + 1), 1e-4)
        for query, word in enumerate((*words, len(vocabulary))):
            self.probabilities[0, query, word] = 0.9
        self.inputs: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor, text: torch.Tensor, seen: torch.Tensor) -> Prediction:
        self.inputs = [images, text, seen]
        masks = torch.full((1, 3, images.shape[2] // 4, images.shape[3] // 4), -9.0)
        half = masks.shape[3] // 2
        masks[0, 0, :, :half] = 9.0
        masks[0, 1, :, half:] = 9.0
        inside = torch.arange(3.0)[None, :, None].expand(1, 3, 768)
        return Prediction(masks, self.probabilities.log(), inside + 10, inside + 20)


def test_segments_carry_their_words_and_embeddings():
    vocabulary = load_vocabulary()
    network = Predicting(vocabulary, (100, 3))
    teacher = FcClipTeacher(network, vocabulary, text_rows(), "w" * 64)
    image = np.full((90, 150, 3), 255, np.uint8)
    (found,) = teacher.segment([image])
    images, text, seen = network.inputs
    assert images.shape == (1, 3, 96, 160)  # multiples of 32
    assert (images[:, :, 90:] == 0).all()
    np.testing.assert_array_equal(text, text_rows())
    assert int(seen.sum()) == 36
    assert found.masks.shape == (90, 150)
    assert found.masks.dtype == np.uint16
    assert (found.masks[:, :76] == 1).all()  # half of the padded width is 80, less a soft border
    assert (found.masks[:, 84:] == 2).all()
    assert found.words.tolist() == [100, 3]
    assert found.words.dtype == np.int32
    assert found.embeddings.dtype == np.float32
    np.testing.assert_array_equal(found.embeddings[:, 0], [20, 21])  # CLIP's
    np.testing.assert_array_equal(teacher.panoptic(image).in_vocabulary[:, 0], [10, 11])


def test_words_with_one_vector_are_the_first_of_them():
    vocabulary = load_vocabulary()
    first, second = vocabulary.indices("pavilion")
    text = text_rows()
    text[second] = text[first]
    network = Predicting(vocabulary, (second, first))
    (found,) = FcClipTeacher(network, vocabulary, text, "").segment(
        [np.zeros((64, 64, 3), np.uint8)]
    )
    # Stuff under one word is one segment.
    assert found.words.tolist() == [first]
    assert (found.masks == 1).all()


def test_images_of_another_kind_are_refused():
    vocabulary = load_vocabulary()
    teacher = FcClipTeacher(Predicting(vocabulary, (0, 1)), vocabulary, text_rows(), "")
    with pytest.raises(ValueError, match=r"expected an RGB image uint8\[H, W, 3\], found float64"):
        teacher.segment([np.zeros((64, 64, 3))])
