"""Data: sources, ledger, selection, order, images, loader, and the packaged pictures."""
