"""Training of the three networks by one loop."""
