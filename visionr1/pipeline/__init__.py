"""What to do next with a run: the pure planner, and the local runner that acts on it. Never imports torch."""
