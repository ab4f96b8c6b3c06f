"""Cold-start fine-tuning under torchrun."""
