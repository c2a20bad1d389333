"""Annotators: what is found out of each pair, in columns beside the ledger."""
