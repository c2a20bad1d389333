"""Rules: each a frozen dataclass that turns columns of the ledger into reasons to drop."""
