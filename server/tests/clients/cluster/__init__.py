"""Three nodes on a network of their own, and what can happen to them. `cluster.py` runs it."""
