"""Sampling, by vLLM in the worker's own process or by transformers."""
