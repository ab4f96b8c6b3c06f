"""What fits where: sizes of a model, memory at each moment of a phase, and the choice of what a recipe leaves to us."""
