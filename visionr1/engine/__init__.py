"""DeepSpeed for SFT and GRPO, and the trainer's state on disk."""
