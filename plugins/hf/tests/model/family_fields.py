"""Fields of small models that the rules of `tunewright_hf.model.miniature` do not find, by family.

Most configurations that come without them are incomplete by default: their classes leave sizes to the files of a model.
"""

from collections.abc import Mapping

_MOE = {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2}
_INDEXER = {"indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 8}
_QWEN4 = {**_INDEXER, "indexer_budget": 16, "indexer_compress_ratio": 2}
_T5 = {"decoder_start_token_id": 0}
_REFORMER = {"is_decoder": True, "axial_pos_embds": False, "local_attn_chunk_length": 4, "lsh_attn_chunk_length": 4}
_GEMMA3N = {
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "intermediate_size": [64] * 4,
    "activation_sparsity_pattern": [0.95, 0.0, 0.0, 0.0],
    "num_kv_shared_layers": 2,
}

_COMPASS = {kind: {"rope_type": "default", "rope_theta": 1e4} for kind in ("full_attention", "sliding_attention")}
_DOTS3 = {"head_dim": 16, "rope_parameters": {"indexed_attention": {"partial_rotary_factor": 0.5}}}
_ZAMBA = {
    "num_hidden_layers": 4,
    "layers_block_type": ["linear_attention", "hybrid"] * 2,
    "attention_hidden_size": 64,
    "attention_head_dim": 16,
}
_DORY = {  # it writes each layer as two
    "layer_types": ["sliding_attention", "mlp", "full_attention", "mlp", "sliding_attention", "mlp"],
    "num_hidden_layers": 6,
    "n_input_layers": 2,
    "n_recurrent_layers": 2,
    "n_output_layers": 2,
}

GIVEN: dict[str, Mapping[str, object]] = {
    "apertus1p5": {
        "vision_config": {"codebook_size": 8},
        "audio_config": {"codebook_size": 8},
        "image_token_offset": 40,
        "audio_token_offset": 48,
    },
    "chameleon": {"vocabulary_map": {"<image>": 60, "IMGIMGAZ": 61}},
    "cohere_compass": {"text_config": {"rope_parameters": _COMPASS}},
    "cohere_compass_text": {"rope_parameters": _COMPASS},
    "dbrx": {"attn_config": {"rope_theta": 1e4, "clip_qkv": 8.0}},
    "deepseek_ocr2": {"text_config": {"mlp_layer_types": ["dense", "sparse", "sparse"], "num_experts_per_tok": 2}},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "diffusion_gemma": {
        "text_config": {
            "num_experts": 4,
            "top_k_experts": 2,
            "moe_intermediate_size": 64,
            "rope_parameters": {"full_attention": {"partial_rotary_factor": 1.0}},
        }
    },
    "dory": _DORY,
    "dots1": _MOE,
    "dots3_note": {"text_config": _DOTS3, "audio_config": {"adapter_input_size": 32}},
    "dots3_note_text": _DOTS3,
    "emu3": {"vocabulary_map": {"<image>": 60, "<|extra_200|>": 61, "<|visual token 000000|>": 62}},
    "encoder-decoder": {"decoder_start_token_id": 0, "pad_token_id": 0},
    "ernie4_5_vl_moe": {"text_config": {"rope_parameters": {"mrope_section": [1, 1, 2]}}},
    "esm": {"vocab_size": 64, "pad_token_id": 0},
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_n_heads": 8, "mamba_d_head": 8},
    "gemma3n_text": _GEMMA3N,
    "glm4v_moe": {"text_config": {"rope_parameters": {"partial_rotary_factor": 1.0}}},
    "glm5_next": {"text_config": {"index_topk": 16, "index_kpool": 2}},
    "granite4_vision": {
        "deepstack_layer_map": [],
        "spatial_target_layers": [],
        "vision_config": {"hidden_size": 64},
        "downsample_rate": "4/8",
    },
    "layoutlmv3": {"coordinate_size": 5, "shape_size": 6},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv"], "num_dense_layers": 1},
    "lilt": {"hidden_size": 48},
    "longt5": _T5,
    "mamba2": {"num_heads": 8},
    "mobilebert": {"true_hidden_size": 32, "intra_bottleneck_size": 32},
    "molmo2": {"adapter_config": {"vision_feature_layer": [2, 1]}},
    "nemotron": {"num_key_value_heads": 2},
    "perceiver": {"d_latents": 32, "num_latents": 8, "d_model": 32},
    "qwen2_5_omni_thinker": {"vision_start_token_id": 60, "vision_end_token_id": 61},
    "qwen3_omni_moe_thinker": {"vision_start_token_id": 60, "vision_end_token_id": 61},
    "qwen4_exp": {"text_config": _QWEN4},
    "qwen4_exp_text": _QWEN4,
    "reformer": _REFORMER,
    "step3p7": {"text_config": {"sliding_window": 4}},
    "switch_transformers": _T5,
    "t5": _T5,
    "xmod": {"default_language": "en_XX"},
    "zamba": _ZAMBA,
    "zamba2": {**_ZAMBA, "n_mamba_heads": 8, "mamba_headdim": 8, "hybrid_layer_ids": [1, 3]},
}
"""Fields to set in the small configuration; those of its parts are merged into them."""
