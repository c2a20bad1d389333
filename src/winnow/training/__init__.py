"""Training: one step, one loop, checkpoints that resume bit for bit."""
