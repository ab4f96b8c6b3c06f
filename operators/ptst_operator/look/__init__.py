"""Looks at a run: at the cluster, its driver and its run directory. Reads only."""
