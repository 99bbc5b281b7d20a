"""With which kernels a run goes on, and what it says of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from uov_jax import sparse
from uov_jax.checkpoints.kernels import go_on_with
from uov_jax.sparse import kernels


@pytest.fixture(autouse=True)
def chosen(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The kernels that a new run takes here."""
    monkeypatch.delenv(kernels.VARIABLE, raising=False)
    before = sparse.current_kernels()
    yield before
    sparse.use_kernels(before)


def other_than(name: str) -> str:
    if name == "generic":
        pytest.skip("only the generic kernels run here")
    return "generic"


@pytest.mark.parametrize("same", [True, False])
def test_nothing_is_said_where_nothing_differs(chosen: str, same: bool) -> None:
    assert go_on_with(chosen if same else None) is None
    assert sparse.current_kernels() == chosen


def test_those_of_the_checkpoint_go_on(chosen: str) -> None:
    recorded = other_than(chosen)
    assert go_on_with(recorded) == (
        f"It keeps to the generic kernels of its checkpoint, for the same bits. A new run would "
        f"take {chosen} here: UOV_INSTRUCTION_SET={chosen} before the command does so, but then it "
        "will not end with the same bits as if it had not been stopped."
    )
    assert sparse.current_kernels() == recorded


@pytest.mark.parametrize("recorded", ["avx1024", "xla"])
def test_where_they_are_missing_the_run_goes_on_with_others(chosen: str, recorded: str) -> None:
    assert go_on_with(recorded) == (
        f"The checkpoint was computed with {recorded} kernels, which cannot run here. It goes on "
        f"with {chosen}: it will not end with the same bits as if it had not been stopped."
    )
    assert sparse.current_kernels() == chosen


def test_what_the_environment_asks_for_comes_first(
    chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(kernels.VARIABLE, chosen)
    assert go_on_with(other_than(chosen)) == (
        f"The checkpoint was computed with generic kernels; UOV_INSTRUCTION_SET asks for {chosen}: "
        "it will not end with the same bits as if it had not been stopped."
    )
    assert sparse.current_kernels() == chosen
    assert go_on_with(chosen) is None


def test_float32_is_the_same_in_two_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse, "current_kernels", lambda: "avx512")
    monkeypatch.setattr(sparse, "use_kernels", lambda name: False)
    said = go_on_with("avx512_bf16")
    assert said is not None
    assert said.endswith("if it had not been stopped, unless it computes in float32 alone.")


def test_without_the_engine_compiled_kernels_cannot_go_on() -> None:
    with sparse.use_backend("xla"):
        assert go_on_with("xla") is None
        said = go_on_with("generic")
    assert said is not None
    assert "computed with generic kernels, which cannot run here. It goes on with xla" in said
