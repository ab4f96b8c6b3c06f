"""The run directory, the contract between all phases: what is where in it, who writes it and how it is read."""
