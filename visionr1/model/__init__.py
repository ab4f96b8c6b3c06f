"""Qwen2.5-VL as training needs it: loading, prompts, packed rows, log-probs."""
