"""Deciding about a run: what to write into its status, and what to make, to ask and to delete. All of it is pure."""
