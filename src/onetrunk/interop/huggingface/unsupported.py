"""Refuses, by name, what a checkpoint's files ask for and this package cannot do, unless no answer depends on it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from onetrunk.core.errors import ModelFileError


def setting_names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# How a model was trained, stored and named, heads that are not taken, how text is drawn (the user says that).
OF_MODELS = setting_names(
    """
    _name_or_path _commit_hash architectures attn_implementation _attn_implementation auto_map dtype torch_dtype
    model_type transformers_version name_or_path tokenizer_class processor_class trust_remote_code unsloth_version
    unsloth_fixed task_specific_params finetuning_task problem_type id2label label2id num_labels
    initializer_range initializer_factor initializer_cutoff_factor init_std use_cache return_dict output_attentions
    output_hidden_states output_past gradient_checkpointing tie_weights_ torchscript use_bfloat16 pretraining_tp
    chunk_size_feed_forward deterministic_flash_attn reference_compile repad_logits_with_grad sparse_prediction
    sparse_pred_ignore_index reorder_and_upcast_attn layerscale_value mm_tokens_per_image
    hidden_dropout_prob attention_probs_dropout_prob attention_dropout resid_pdrop embd_pdrop attn_pdrop dropout
    activation_dropout classifier_dropout classifier_dropout_prob qa_dropout seq_classif_dropout embedding_dropout
    mlp_dropout drop_path_rate summary_first_dropout encoder_layerdrop decoder_layerdrop layerdrop
    summary_type summary_use_proj summary_activation summary_proj_to_labels
    pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head pooler_type pooler_output_size
    pooler_act classifier_pooling classifier_bias classifier_activation directionality net_structure_type
    projection_dim projection_size logit_scale_init_value encoder_stride vision_use_head n_ctx _sliding_window_pattern
    out_features out_indices _out_features _out_indices stage_names apply_layernorm reshape_hidden_states
    use_mask_token mask_ratio norm_pix_loss decoder_num_attention_heads decoder_hidden_size
    decoder_num_hidden_layers decoder_intermediate_size sinusoidal_pos_embds max_window_layers cache_implementation
    bos_token_id eos_token_id pad_token_id sep_token_id cls_token_id mask_token_id decoder_start_token_id
    bos_token eos_token pad_token boi_token_index eoi_token_index image_token_index
    max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p
    typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size
    num_return_sequences max_new_tokens remove_invalid_values begin_suppress_tokens suppress_tokens
    exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id bad_words_ids
    """
)
# Of training, of batches, of other classes, and of how much of a text is read.
OF_TOKENIZERS = setting_names(
    """
    model_max_length max_len name_or_path _name_or_path special_tokens_map_file tokenizer_file backend is_local
    processor_class auto_map model_input_names padding_side truncation_side
    clean_up_tokenization_spaces errors use_fast init_inputs do_basic_tokenize never_split
    trim_offsets legacy sp_model_kwargs use_default_system_prompt keep_accents full_tokenizer_file max_length
    stride truncation_strategy truncation pad_token_type_id pad_to_multiple_of cls_token_box remove_space
    model_specific_special_tokens from_slow spaces_between_special_tokens split_special_tokens local_files_only
    tokenizer_object fix_mistral_regex unk_id
    """
)
# Of what a configuration for drawing text says: what is honoured, and what no answer depends on.
OF_GENERATION = setting_names(
    """
    bos_token_id eos_token_id pad_token_id suppress_tokens decoder_start_token_id transformers_version
    _from_model_config use_cache return_dict_in_generate output_attentions output_hidden_states output_scores
    cache_implementation
    """
)
OF_PICTURES = setting_names(
    """
    image_processor_type feature_extractor_type processor_class _valid_processor_keys _valid_kwargs_names
    model_input_names data_format input_data_format return_tensors device disable_grouping default_to_square
    auto_map _auto_class image_seq_length num_channels
    """
)


def refuse_unknown(where: Path, settings: Mapping[str, Any], known: Collection[str], what: str) -> None:
    """Raises ModelFileError for what is said in the file `where` and not known; `what` does not depend on it, or does:
    "the model's answers do"."""
    for key, value in settings.items():
        if key not in known and value not in (None, False, "", [], {}, 0):
            raise ModelFileError(
                f"{where} says {key}: {str(value)[:60]!r}, which nothing here honours. If {what} not depend on it, "
                "take the line out of the file."
            )
