"""What becomes of fields that a route does not have: labels are passed over, what would change the answer is refused.

Clients send a route the fields of other servers and of later versions of OpenAI's API. A field that is ignored although
it asks for another answer goes unnoticed, so every field that is not known here to change nothing is refused by name.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from typing import Any

from ...errors import FieldError

_LONGEST_NAME = 60

# They name the client and its purpose, choose where and how fast it is computed, or ask for data beside the answer.
_LABELS = {
    "cache_prompt", "cache_salt", "comment", "continuous_usage_stats", "created", "custom_id", "data_parallel_rank",
    "description", "disable_fallback", "guided_decoding_backend", "id", "id_slot", "include", "kv_transfer_params",
    "max_tool_calls", "model", "n_cache_reuse", "name", "note", "prediction", "priority", "prompt_cache_key",
    "prompt_cache_retention", "provider", "purpose", "reference", "return_progress", "route", "safety_identifier",
    "service_tier", "slot_id", "source", "store", "stream_interval", "stream_options", "timestamp",
    "timings_per_token", "title", "usage", "user", "verbose", "version",
}  # fmt: skip
# Ollama's options of the load and the computation, which are set at the start of the server and change no answer. This
# includes `num_ctx`: a prompt that does not fit in the context is refused, and an answer that does not ends with
# "length". Where a body has `options`, they belong there.
OF_THE_LOAD = {
    "draft_num_predict", "f16_kv", "low_vram", "main_gpu", "num_batch", "num_ctx", "num_gpu", "num_keep", "num_thread",
    "numa", "use_mlock", "use_mmap",
}  # fmt: skip
# Names that only label a request, whoever made them up.
_LABEL_SHAPE = re.compile(
    r"x[-_].+|(litellm|langfuse|langsmith|helicone)_.+|trace(parent|state)"
    r"|((app|client|custom|end|external|my)[-_]?)?(metadata|tags?|labels?|traces?|user|session|request)"
    r"([-_]?(id|ids|name|key|info|uuid|tags|metadata))?"
    r"|(account|agent|app|application|chat|client|conversation|correlation|customer|device|environment|event|group"
    r"|idempotency|job|message|organization|parent|project|run|span|task|team|tenant|thread|workflow)"
    r"[-_]?(id|ids|name|key|uuid|tags)",
    re.IGNORECASE,
)
# Values of unsupported fields that ask for nothing. For other fields these are null, false and empty values.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "add_special_tokens": (),
    "allowed_token_ids": (),
    "best_of": (1,),
    "clean_up_tokenization_spaces": (False,),
    "do_sample": (True,),
    "dry_multiplier": (0,),
    "dynatemp_range": (0,),
    "early_stopping": (False, True),
    "enable_thinking": (),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "include_reasoning": (True,),
    "length_penalty": (1,),
    "min_length": (0,),
    "min_p": (0,),
    "mirostat": (0,),
    "mirostat_mode": (0,),
    "modalities": (["text"],),
    "n": (1,),
    "n_probs": (0,),
    "no_repeat_ngram_size": (0,),
    "num_beams": (1,),
    "parallel_tool_calls": (False, True),
    "parse_special": (True,),
    "penalize_newline": (True,),
    "penalty_alpha": (0,),
    "presence_penalty": (0,),
    "reasoning_format": ("auto", "deepseek"),
    "repeat_last_n": (-1,),
    "repeat_penalty": (1,),
    "repetition_penalty": (1,),
    "separate_reasoning": (True,),
    "skip_special_tokens": (True,),
    "smoothing_factor": (0,),
    "spaces_between_special_tokens": (False, True),
    "tfs": (1,),
    "tfs_z": (1,),
    "think": (),
    "thinking": (),
    "tool_choice": ("none", "auto"),
    "top_a": (0,),
    "top_logprobs": (0,),
    "top_n_sigma": (-1, 0),
    "truncation": ("disabled",),
    "typical": (1,),
    "typical_p": (1,),
    "verbosity": ("medium",),
    "xtc_probability": (0,),
}
# Fields that mean nothing unless another one is set, which is refused itself.
_ONLY_BESIDE: dict[str, tuple[str, ...]] = {
    "dry_allowed_length": ("dry_multiplier",),
    "dry_base": ("dry_multiplier",),
    "dry_penalty_last_n": ("dry_multiplier",),
    "dry_sequence_breakers": ("dry_multiplier",),
    "dynatemp_exponent": ("dynatemp_range",),
    "mirostat_eta": ("mirostat", "mirostat_mode"),
    "mirostat_tau": ("mirostat", "mirostat_mode"),
    "penalize_newline": ("repeat_penalty", "repetition_penalty"),
    "repeat_last_n": ("repetition_penalty", "repeat_penalty", "presence_penalty", "frequency_penalty"),
    "smoothing_curve": ("smoothing_factor",),
    "xtc_threshold": ("xtc_probability",),
}
_LARK = "structured_outputs takes a grammar in Lark's syntax"
_TEMPLATE = "options of the model's chat template go into chat_template_kwargs"
_TOOLS = "use tools and tool_choice"
_STOP = "use stop, or ignore_eos"
_LENGTH = "use max_tokens"
_BODY = "write its fields into the body itself"
_INSTEAD = {
    "allowed_token_ids": "use logit_bias",
    "bad_words": "use logit_bias",
    "chat_template": _TEMPLATE,
    "documents": _TEMPLATE,
    "ebnf": _LARK,
    "enable_thinking": _TEMPLATE,
    "extra_body": _BODY,
    "function_call": _TOOLS,
    "functions": _TOOLS,
    "grammar": _LARK,
    "guided_grammar": _LARK,
    "background": "the answer is the response, or with stream its events",
    "conversation": "use previous_response_id",
    "logprobs": "use top_logprobs",
    "max_completion_tokens": _LENGTH,
    "max_new_tokens": _LENGTH,
    "max_tokens": "use max_output_tokens",
    "messages": "use input",
    "n_predict": _LENGTH,
    "num_predict": _LENGTH,
    "options": _BODY,
    "random_seed": "use seed",
    "repeat_penalty": "use repetition_penalty",
    "repetition_penalty": "use repeat_penalty",
    "reasoning_effort": "use reasoning.effort",
    "reasoning": "use reasoning_effort, or chat_template_kwargs",
    "reasoning_format": "use separate_reasoning",
    "sampling_params": _BODY,
    "stop_token_ids": _STOP,
    "think": _TEMPLATE,
    "thinking": _TEMPLATE,
    "thinking_budget": _TEMPLATE,
    "tool_choice": "POST /v1/chat/completions takes it",
    "tools": "POST /v1/chat/completions takes them",
}
# On Ollama's routes, where settings stand in `options` and have names of their own.
_OPTIONS = {
    "max_completion_tokens": "num_predict",
    "max_new_tokens": "num_predict",
    "max_tokens": "num_predict",
    "n_predict": "num_predict",
    "repetition_penalty": "repeat_penalty",
}


def refuse_unknown(body: Mapping[str, Any], known: Collection[str]) -> None:
    """Refuse fields that may change the answer and are not of the route.

    Args:
        body: the fields that were sent, without those that are null.
        known: the names of the route's own fields.

    Raises:
        FieldError: names the first of them.
    """
    passed_over = set() if "options" in known else OF_THE_LOAD
    for name in sorted(body.keys() - known - passed_over):
        if not (_is_label(name) or _asks_nothing(name, body[name]) or _is_idle(name, body)):
            shown = name[:_LONGEST_NAME]
            hint = _option(name, known) or _INSTEAD.get(name) or _similar(name, known)
            raise FieldError(f"'{shown}' is not supported here", param=shown, hint=hint)


def _is_label(name: str) -> bool:
    return name in _LABELS or (len(name) <= _LONGEST_NAME and _LABEL_SHAPE.fullmatch(name) is not None)


def _asks_nothing(name: str, value: Any) -> bool:
    neutral = _NEUTRAL.get(name, (False,))
    if neutral and value in ("", [], {}):
        return True
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in neutral)


def _is_idle(name: str, body: Mapping[str, Any]) -> bool:
    """Whether the field only modifies other fields that are missing."""
    if name not in _ONLY_BESIDE:
        return False
    partners = [(one, body[one]) for one in _ONLY_BESIDE[name] if one in body]
    return all(_asks_nothing(one, value) for one, value in partners)


def _option(name: str, known: Collection[str]) -> str:
    own = _OPTIONS.get(name, name)
    if "num_predict" in known:
        return f"use {own}" if own in known else ""
    options = ("frequency_penalty", "min_p", "num_ctx", "num_predict", "presence_penalty", "repeat_penalty", "seed",
               "stop", "temperature", "top_k", "top_p")  # fmt: skip
    return f"write {own} into options" if "options" in known and own in options else ""


def _similar(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name[:_LONGEST_NAME].lower(), sorted(known), 1, 0.75)
    return f"did you mean '{near[0]}'?" if near else "leave it out"
