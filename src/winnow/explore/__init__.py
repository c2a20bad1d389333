"""Explore: a page on this machine over the pairs of a ledger and a model that sees them.

`pairs.py` reads what is known of the pairs, `embedding.py` lets the model look at each once,
`index.py` ranks them, `answers.py` puts that together, and `app.py` serves it behind `guard.py`.
"""
