"""Models of a few thousand weights with the architecture of a large one, to try out what a family does before its weights are loaded."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

import transformers

VOCABULARY = 64
"""Tokens that a miniature knows; special tokens are the last ones."""

_HEADS, _HEAD, _HIDDEN, _INNER, _CONTEXT, _WINDOW = 4, 8, 32, 64, 256, 4
_KEY_HEADS, _LAYERS = 2, 3
_CHOSEN = (
    16  # keys that attention chooses, by scores that are often equal: with as many, short samples leave it no choice
)

# What a field is, by its name: the first that matches counts. None leaves the field as it is.
_SIZES: tuple[tuple[str, int | None], ...] = (
    (r"token_(id|ids|index)$|(^|_)token_id_|^(pad|bos|eos|sep|cls|mask)_id$", None),
    (r"(^|_)(vocab_size|vocab|n_vocab|vocabulary_size)$|^vocab_size_", VOCABULARY),
    (
        r"num_channels|in_channels|kernel|stride|factor|dropout|theta|freq|eps|ratio|chunk_size_feed|_every|interval|period|expand",
        None,
    ),
    (r"(num|n)_(nextn|mtp)|num_nextn_predict_layers|num_kv_shared_layers", 0),
    (r"max_(position|seq|source|target)|n_positions|n_ctx|max_.*length|context_len|max_n_positions", _CONTEXT),
    (r"shared_expert.*size|expert.*(size|dim)|moe_.*(size|dim)|(size|dim).*expert", _INNER),
    (r"index_topk", _CHOSEN),
    (r"num_experts_per|experts_per|top_?k$|moe_k$|moe_topk|num_selected|num_experts_per_token", 2),
    (r"n_group$|topk_group|num_expert_group|n_groups_|n_limited_groups", 1),
    (r"shared_expert", 1),
    (r"expert", 4),
    (r"lora_rank|lora_dim|_rank$|rank_", _HEAD),
    (r"(key_value|kv|num_key)_?.*heads|n_head_kv|num_kv|n_kv|multi_query_group", _KEY_HEADS),
    (r"mamba.*n_?heads|mamba_num_heads|ssm.*heads", 8),
    (r"rotary_dim", 4),
    (r"(num|n)_.*heads?$|(^|_)(n_head|num_heads|heads|n_heads|attention_heads)$|num_head", _HEADS),
    (r"head_?dim|d_kv|kv_channels|head_size|head_hidden|headdim|d_head|qk_|v_head", _HEAD),
    (r"state_size|d_state|ssm_state", _HEAD),
    (r"intermediate|ffn|d_ff|n_inner|inner|mlp_(dim|size|hidden)|feed_forward_size|ff_dim|feedforward", _INNER),
    (r"layers|n_layer|depth$|num_blocks|num_hidden_layers|n_layers|num_stages", _LAYERS),
    (r"window|chunk_size|attn_chunk|local_attention$", _WINDOW),
    (r"image_size", 32),
    (r"base_channels|codebook_size|num_embeddings", _HIDDEN),
    (r"patch_size", 8),
    (
        r"hidden_size|d_model|n_embd|embed_dim|hidden_dim|embedding_size|(^|_)dim$|width|hidden_act_dim|d_embed|output_dim|proj.*(dim|size)|mm_hidden|lru|block_size",
        _HIDDEN,
    ),
)


def miniature(config: transformers.PreTrainedConfig, **given: Any) -> transformers.PreTrainedConfig:
    """Return a configuration of the same class with few and small layers, of each kind that the given one has.

    Args:
        config: the large model's configuration; it is not changed.
        given: fields to set as well, where the rules do not fit a family.
    """
    return type(config).from_dict(_merged(_shrunk(config.to_dict()), copy.deepcopy(given)))


def _merged(fields: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields with the given ones, also in the parts of a model."""
    both = {
        name: _merged(own, value)
        for name, value in given.items()
        if isinstance(value, Mapping) and isinstance(own := fields.get(name), Mapping)
    }
    return {**fields, **given, **both}


def _shrunk(given: Mapping[str, Any]) -> dict[str, Any]:
    keep = _chosen_layers(given)
    found = {name: _field(name, value, given, keep) for name, value in given.items()}
    if "initializer_range" in found:
        found["initializer_range"] = 0.2
    if {"qk_head_dim", "qk_nope_head_dim", "qk_rope_head_dim"} <= found.keys():
        found["qk_head_dim"] = found["qk_nope_head_dim"] + found["qk_rope_head_dim"]
    return found


def _field(name: str, value: Any, given: Mapping[str, Any], keep: Sequence[int]) -> Any:
    if name == "per_layer_config" and isinstance(value, Mapping):
        own = {int(k): v for k, v in value.items()}  # some write 2 as 02
        return {i: _shrunk(own[layer]) for i, layer in enumerate(keep) if layer in own}
    if isinstance(value, Mapping) and name.startswith("rope_"):
        return _plain_rope(value)
    if isinstance(value, Mapping) and (name.endswith("config") or "model_type" in value):
        return _shrunk(value)
    if keep and isinstance(value, list) and len(value) == _depth(given):
        return [_size(name, value[i], given, len(keep)) for i in keep]
    return _size(name, value, given, len(keep))


def _depth(given: Mapping[str, Any]) -> int:
    names = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_attention_layers")
    return next((v for n in names if isinstance(v := given.get(n), int)), 0)


def _chosen_layers(given: Mapping[str, Any]) -> list[int]:
    """Return the layers to keep: one of each kind, and at least two."""
    depth = _depth(given)
    kinds = [
        [str(v) for v in value]
        for value in given.values()
        if isinstance(value, list)
        and len(value) == depth
        and depth > 1
        and all(isinstance(v, (str, int, bool)) for v in value)
    ]
    if not depth:
        return []
    seen: dict[tuple[str, ...], int] = {}
    for i in range(depth):
        seen.setdefault(tuple(kind[i] for kind in kinds), i)
    chosen = sorted(seen.values())[:4]
    rest = [i for i in range(depth) if i not in chosen]
    return sorted([*chosen, *rest[: max(0, _LAYERS - len(chosen))]])


def _size(name: str, value: Any, given: Mapping[str, Any], depth: int) -> Any:
    if name == "head_dim" and value is None:
        return _HEAD
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        return value
    size = next((size for pattern, size in _SIZES if re.search(pattern, name)), None)
    if size is None:
        return VOCABULARY - 1 - value % 16 if "token" in name and value >= VOCABULARY else value
    if size == _KEY_HEADS:
        return _key_heads(value, given)
    if size == _LAYERS and depth:
        return min(value, depth)
    return min(value, size)


def _key_heads(value: int, given: Mapping[str, Any]) -> int:
    """Return the number of key heads: all, some or one, as the given ones are of the query heads."""
    names = ("num_attention_heads", "n_head", "num_heads", "n_heads")
    heads = next((v for n in names if isinstance(v := given.get(n), int)), _HEADS)
    return _HEADS if value >= heads else min(value, _KEY_HEADS)


def _plain_rope(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return rotary embeddings that need no context of a certain size; three axes where a family has them."""
    if not value or any(isinstance(v, Mapping) for v in value.values()):
        return {k: _plain_rope(v) if isinstance(v, Mapping) else v for k, v in value.items()}
    numbers = {k: v for k, v in value.items() if isinstance(v, (int, float))}
    return {**numbers, "rope_type": "default", "mrope_section": [2, 1, 1]}
