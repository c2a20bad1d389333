"""Evaluation: embed once, then every protocol on features, each number with its uncertainty."""
