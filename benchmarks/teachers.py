"""Time and memory of the 2D teachers for one nuScenes image, at random weights of their real sizes.

    python -m benchmarks.teachers                 # all of them, one after the other
    python -m benchmarks.teachers san --image FILE

Each teacher is a process of its own, on the CPU in float32, so that its memory is its own. Random
weights cost what trained ones do, but that FC-CLIP's masks may be more or fewer; the text tower is
left out (once a vocabulary). The first of two images warms up.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from uov_jax import processors
from uov_jax.dumps.write import read_image
from uov_jax.vocabulary import load_vocabulary

ROOT = Path(__file__).parents[1]
TEMPLATES = 80  # that CAT-Seg keeps apart


def unit_rows(*shape: int) -> np.ndarray:
    """Random float32 unit vectors."""
    rows = np.random.default_rng(0).standard_normal(shape, np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def san() -> Any:
    """SAN, ViT-L/14."""
    from uov_jax.teachers.san import SanTeacher
    from uov_jax.teachers.san_network import SanNetwork

    return SanTeacher(drawn(SanNetwork), unit_rows(175, 768), "")


def fcclip() -> Any:
    """FC-CLIP, ConvNeXt-L."""
    from uov_jax.teachers.fcclip.network import FcClip
    from uov_jax.teachers.fcclip.teacher import FcClipTeacher

    return FcClipTeacher(drawn(FcClip), load_vocabulary(), unit_rows(175, 768), "")


def catseg() -> Any:
    """CAT-Seg, first release, ViT-L/14."""
    from uov_jax.teachers.catseg.network import CatSeg
    from uov_jax.teachers.catseg.teacher import CatSegTeacher

    return CatSegTeacher(drawn(CatSeg), unit_rows(175, TEMPLATES, 768))


def maskclip() -> Any:
    """Dense CLIP features, ViT-L/14 at 336 pixels."""
    from uov_jax.teachers.clip_vision import build_clip
    from uov_jax.teachers.maskclip import MaskClipTeacher

    return MaskClipTeacher(drawn(build_clip), unit_rows(175, 768))


def slic() -> Any:
    """SLIC superpixels, which have no weights."""
    from uov_jax.teachers.slic import SlicTeacher

    return SlicTeacher()


TEACHERS: dict[str, Callable[[], Any]] = {
    "san": san,
    "fcclip": fcclip,
    "catseg": catseg,
    "maskclip": maskclip,
    "slic": slic,
}


def drawn(build: Callable[[], Any]) -> Any:
    """A network whose matrices are drawn small, so that no activation overflows."""
    import torch

    with torch.device("meta"):
        network = build()
    network = network.to_empty(device="cpu").requires_grad_(False).eval()
    torch.manual_seed(0)
    for name, tensor in network.state_dict().items():
        if not tensor.is_floating_point():
            tensor.zero_()
        elif tensor.ndim > 1:
            tensor.normal_(0, 0.5 / np.sqrt(tensor[0].numel()))
        else:
            tensor.fill_(0.0 if name.endswith(("bias", "running_mean")) else 1.0)
    return network


def measure(name: str, image: np.ndarray) -> dict[str, float]:
    """Seconds of wall and processor time for the image, and this process's peak memory in GiB."""
    teacher = TEACHERS[name]()
    for _ in range(2):
        wall, processor = time.perf_counter(), time.process_time()
        teacher.segment([image])
        seconds = time.perf_counter() - wall, time.process_time() - processor
    # In bytes on macOS, in KiB elsewhere.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"wall": seconds[0], "processor": seconds[1], "memory": peak / 2**30}


def street() -> np.ndarray:
    """uint8[900, 1600, 3]: flat areas and some noise in the place of a camera's image."""
    rng = np.random.default_rng(0)
    areas = rng.integers(0, 255, (9, 16, 3)).repeat(100, 0).repeat(100, 1)
    return np.clip(areas + rng.normal(0, 8, areas.shape), 0, 255).astype(np.uint8)


def main(arguments: list[str] | None = None) -> None:
    """Print a table, a row for each teacher."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.teachers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("teachers", nargs="*", help=f"some of {', '.join(TEACHERS)}")
    parser.add_argument("--image", type=Path, help="1600 x 900 as nuScenes'; a made-up one else")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    processors.limit_libraries()
    unknown = set(options.teachers) - set(TEACHERS)
    if unknown:
        parser.error(f"no teacher {', '.join(sorted(unknown))}: expected {', '.join(TEACHERS)}")
    if options.alone:
        image = street() if options.image is None else read_image(options.image)
        print(json.dumps(measure(options.teachers[0], image)))
        return
    print("| | s an image | s of processor time | GiB at most |\n|---|---|---|---|")
    for name in options.teachers or TEACHERS:
        command = [sys.executable, "-m", "benchmarks.teachers", name, "--alone"]
        command += [] if options.image is None else ["--image", str(options.image.resolve())]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        print(
            f"| {name} | {found['wall']:.1f} | {found['processor']:.1f} | {found['memory']:.2f} |"
        )


if __name__ == "__main__":
    main()
