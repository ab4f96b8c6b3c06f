"""Looking at a run: what the cluster, its driver and its run directory say. Reads only."""
