"""A stage of GRPO: the driver, the step, the workers."""
