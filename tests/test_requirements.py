"""The pinned lists: exact, and in agreement with what pyproject.toml asks for on every platform."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LISTS = ("base", "dev", "clouds", "nuscenes", "teachers")
TOOLS = ("nvcc", "cuobjdump")  # for .ci/cuda, in a folder of their own
FUZZ = ("fuzz",)  # for Linux alone
PLATFORMS = {
    "Linux x86-64": {"sys_platform": "linux", "platform_machine": "x86_64"},
    "Linux aarch64": {"sys_platform": "linux", "platform_machine": "aarch64"},
    "macOS arm64": {"sys_platform": "darwin", "platform_machine": "arm64"},
}
# Of extras, those whose packages are pinned; CUDA and Rerun are for users to choose.
EXTRAS = ("simulate", "teachers", "checkpoints", "las", "ros", "dev")


def pinned(*names: str) -> list[Requirement]:
    lines = [
        line
        for name in names
        for line in (ROOT / "requirements" / f"{name}.txt").read_text("utf-8").splitlines()
    ]
    return [Requirement(line) for line in lines if not line.startswith("#")]


def asked() -> list[Requirement]:
    """What pyproject.toml asks for: to build, to run, and in the extras."""
    file = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    project = file["project"]
    extras = project["optional-dependencies"]
    lines = [*file["build-system"]["requires"], *project["dependencies"]]
    return [Requirement(line) for line in [*lines, *(r for name in EXTRAS for r in extras[name])]]


@pytest.mark.parametrize("name", LISTS + TOOLS + FUZZ)
def test_every_line_is_one_version_of_one_package(name: str) -> None:
    found = pinned(name)
    for requirement in found:
        (specifier,) = requirement.specifier
        assert specifier.operator == "=="
        assert "*" not in specifier.version
    assert len({canonicalize_name(r.name) for r in found}) == len(found)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_what_is_asked_for_is_pinned_where_it_is_asked_for(platform: str) -> None:
    surroundings = PLATFORMS[platform]
    versions = {
        canonicalize_name(r.name): next(iter(r.specifier)).version
        for r in pinned(*LISTS)
        if r.marker is None or r.marker.evaluate(surroundings)
    }
    for requirement in asked():
        applies = requirement.marker is None or requirement.marker.evaluate(surroundings)
        assert (canonicalize_name(requirement.name) in versions) == applies, requirement
        if applies:
            assert versions[canonicalize_name(requirement.name)] in requirement.specifier


def test_only_the_simulator_misses_a_package_on_aarch64() -> None:
    everywhere, there = (
        {r.name for r in pinned(*LISTS) if r.marker is None or r.marker.evaluate(PLATFORMS[name])}
        for name in ("Linux x86-64", "Linux aarch64")
    )
    assert everywhere - there == {"embreex"}


@pytest.mark.parametrize("version", ["12", "13"])
def test_the_extra_of_a_cuda_is_jax_with_it(version: str) -> None:
    file = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (plain,) = (Requirement(r) for r in file["project"]["dependencies"] if r.startswith("jax"))
    (extra,) = map(Requirement, file["project"]["optional-dependencies"][f"cuda{version}"])
    assert extra.name == plain.name == "jax"
    assert extra.extras == {f"cuda{version}"}
    assert extra.specifier == plain.specifier


def test_the_compiler_of_cuda_and_its_disassembler_are_of_one_generation() -> None:
    of_nvcc = {r.name: next(iter(r.specifier)).version.split(".")[0] for r in pinned(*TOOLS)}
    assert set(of_nvcc.values()) == {"13"}
    assert {"nvidia-cuda-nvcc", "nvidia-cuda-cuobjdump", "nvidia-cuda-nvdisasm"} <= of_nvcc.keys()
