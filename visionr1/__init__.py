"""Vision-R1's recipe: cold start, SFT, GRPO in stages, evaluation, on a laptop's CPU or on GPUs."""
