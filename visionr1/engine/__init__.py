"""DeepSpeed for SFT and GRPO alike, and the trainer's state on disk."""
