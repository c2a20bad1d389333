"""Engines: ways to do the same work on every shard, with the same bytes as the result."""
