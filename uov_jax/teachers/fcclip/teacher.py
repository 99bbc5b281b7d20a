"""FC-CLIP as a teacher: from image and words to panoptic segments with embeddings."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from uov_jax.teachers.clip_input import normalised
from uov_jax.teachers.fcclip.ensemble import seen_in_coco
from uov_jax.teachers.fcclip.network import EMBEDDING_SIZE, FcClip
from uov_jax.teachers.fcclip.panoptic import panoptic_segments
from uov_jax.teachers.runtime import autocast_setting, choose_device, mixed_precision
from uov_jax.teachers.teacher import ImageMasks, TeacherOptions, require_rgb, unusual
from uov_jax.teachers.text import VILD_TEMPLATES, first_of_equal_rows, word_embeddings
from uov_jax.teachers.weights import (
    OfficialFile,
    load_weights,
    read_tensors,
    require_files,
    weights_hash,
)
from uov_jax.vocabulary import Vocabulary, load_vocabulary

NAME = "fcclip"
OFFICIAL = (
    OfficialFile("fcclip_cocopan.pth", "https://github.com/bytedance/fc-clip", 0.88e9),
    OfficialFile(
        "open_clip_pytorch_model.bin",
        "https://huggingface.co/laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup",
        1.41e9,
    ),
)
CLIP_PREFIX = "backbone.clip_model."
# The first of what the released file leaves out.
TEXT_TOWER = CLIP_PREFIX + "token_embedding.weight"
IGNORED = ("criterion.",)  # of the training loss


def _things(vocabulary: Vocabulary) -> str:
    """sha256 of which words are things, "" if they are those of the vocabulary that comes along."""
    flags = vocabulary.word_is_thing
    if np.array_equal(flags, load_vocabulary().word_is_thing):
        return ""
    return hashlib.sha256(np.packbits(flags).tobytes()).hexdigest()


class PanopticSegmentation(NamedTuple):
    """Segments of one image.

    masks: uint16[H, W], 0 = void, 1..M. words: int32[M]. in_vocabulary: float32[M, 768], class
    embeddings as trained on COCO ("fin" in the reference's dumps). out_vocabulary: float32[M, 768],
    CLIP's embedding of the mask that the segment comes from ("fout"). Neither is normalised.
    """

    masks: np.ndarray
    words: np.ndarray
    in_vocabulary: np.ndarray
    out_vocabulary: np.ndarray


class FcClipTeacher:
    """FC-CLIP with its weights and the vectors of a vocabulary.

    Its dumped embeddings are those of CLIP, `out_vocabulary`, as pre-training uses them.
    """

    name = NAME
    embedding_size = EMBEDDING_SIZE
    masks_per_image = 25
    mask_bytes: int | None = None

    def __init__(
        self,
        network: FcClip,
        vocabulary: Vocabulary,
        text_embeddings: np.ndarray,
        weights_hash: str,
        device: torch.device | str = "cpu",
        autocast: bool = False,
    ) -> None:
        """Take over a network with its weights, and unit rows [W, 768] of the words."""
        self.weights_hash = weights_hash
        self.text_embeddings: np.ndarray | None = text_embeddings
        self._device = torch.device(device)
        self._autocast = autocast
        self.settings = unusual(
            autocast=autocast and autocast_setting(self._device), things=_things(vocabulary)
        )
        self._network = network.to(self._device)
        self._text = torch.from_numpy(text_embeddings).to(self._device)
        self._seen = torch.from_numpy(seen_in_coco(vocabulary.words)).to(self._device)
        self._things = vocabulary.word_is_thing
        # Words with the same vector tie; the first one wins. Void is the last word.
        first = np.append(first_of_equal_rows(text_embeddings), len(vocabulary))
        self._first_of = torch.from_numpy(first).to(self._device)

    @property
    def text_tower(self) -> Any:
        """CLIP's text tower, in whose space the embeddings are; see `text.encode_prompts`."""
        return self._network.backbone.clip_model

    def segment(self, images: Sequence[np.ndarray]) -> list[ImageMasks]:
        """Segment RGB images uint8[H, W, 3], one after the other; each fills a device.

        Raises:
            InputError: an image is of another kind, or they differ in size.

        """
        require_rgb(images)
        found = [self.panoptic(image) for image in images]
        return [ImageMasks(f.masks, f.words, f.out_vocabulary) for f in found]

    @torch.inference_mode()
    def panoptic(self, image: np.ndarray) -> PanopticSegmentation:
        """Segment an RGB image uint8[H, W, 3]."""
        pixels = normalised(image)[None].to(self._device)
        with mixed_precision(self._device, self._autocast):
            prediction = self._network(pixels, self._text, self._seen)
        scores, labels = prediction.log_probabilities[0].softmax(-1).max(-1)
        words = self._first_of[labels]
        padded = (pixels.shape[2], pixels.shape[3])
        size = (image.shape[0], image.shape[1])
        masks, queries = panoptic_segments(
            prediction.mask_logits[0], scores, words, self._things, padded, size
        )
        return PanopticSegmentation(
            masks=masks,
            words=words.cpu().numpy()[queries].astype(np.int32),
            in_vocabulary=prediction.in_vocabulary[0].float().cpu().numpy()[queries],
            out_vocabulary=prediction.out_vocabulary[0].float().cpu().numpy()[queries],
        )


def create(vocabulary: Vocabulary, options: TeacherOptions) -> FcClipTeacher:
    """Make the teacher from the official files; see `uov_jax.teachers.create_teacher`."""
    device = choose_device(options.device)
    tensors = read_official(options.weights)
    place = " with ".join(str(path) for path in options.weights)
    network = load_network(tensors, place).to(device)
    digest = weights_hash(options.weights)
    clip = network.backbone.clip_model
    text = word_embeddings(clip, vocabulary.words, VILD_TEMPLATES, digest)
    return FcClipTeacher(network, vocabulary, text, digest, device, options.autocast)


def read_official(paths: Sequence[Path]) -> dict[str, torch.Tensor]:
    """The tensors of the official files, by their names in the first one.

    The released file lacks CLIP's text tower: what is missing there is taken from open_clip's file.
    One file that holds everything will do.

    Raises:
        FileNotFoundError, ValueError: a file is missing; says where its authors publish it.

    """
    if len(paths) == 1:
        tensors = read_tensors(*require_files(NAME, paths, OFFICIAL[:1]))
        if TEXT_TOWER in tensors:
            return tensors
    released, clip = require_files(NAME, paths, OFFICIAL)
    tower = {CLIP_PREFIX + name: value for name, value in read_tensors(clip).items()}
    return tower | read_tensors(released)


def load_network(tensors: dict[str, torch.Tensor], place: str) -> FcClip:
    """The network with exactly the official tensors; WeightsError naming `place` otherwise."""
    with torch.device("meta"):
        network = FcClip()
    load_weights(network, tensors, place, ignored=IGNORED)
    return network
