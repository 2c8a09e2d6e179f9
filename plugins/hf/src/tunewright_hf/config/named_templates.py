"""Chat templates by name, for models that come without one: the files in `chat_templates/`. Nothing heavy is imported here.

A named template uses only tokens that the tokenizer has: a new token would need new, untrained embeddings. `alpaca` needs none
but the end-of-text token.
"""

# ruff: noqa: RUF001 - DeepSeek's tokens are written with wide bars
from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

NAMED: Mapping[str, tuple[str, ...]] = {
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "gemma": ("<start_of_turn>", "<end_of_turn>"),
    "mistral": ("[INST]", "[/INST]"),
    "alpaca": (),
    "deepseek-r1": ("<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"),
}
"""By name, the tokens that a template writes, beside the end-of-text token."""


def named_template(name: str) -> str:
    """Return the text of a named template, in Jinja."""
    return files("tunewright_hf.config").joinpath("chat_templates", f"{name}.jinja").read_text(encoding="utf-8")
