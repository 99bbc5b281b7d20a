"""Words in prompts, as the indoor methods ask for them."""

from __future__ import annotations

from collections.abc import Sequence

from uov_jax.errors import InputError

OPENSCENE_PROMPT = "a {} in a scene"
BARE_PROMPT = "{}"  # of 3DSS-VLG's pseudo labels
UNPROMPTED = "other"  # of no class: OpenScene leaves it as it is, whatever the prompt


def prompted(words: Sequence[str], prompt: str) -> list[str]:
    """Words in a prompt; "other" stays as it is.

    Raises:
        InputError: the prompt has no single {}.

    """
    if prompt.count("{}") != 1:
        raise InputError(f"the prompt {prompt!r} must have one {{}} where the word goes")
    return [word if word == UNPROMPTED else prompt.replace("{}", word) for word in words]
