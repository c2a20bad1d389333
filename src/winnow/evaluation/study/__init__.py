"""What a finished study says: equal cells of two methods, seed by seed, and what papers claim.

`reading.py` reads the cells, `estimates.py` has the intervals, one file per question answers it
(`base.py`, `axes.py`, `shifts.py`, `cost.py`, `few_shot.py`), `verdicts.py` holds papers' claims
against the answers, `tables.py` puts all of it together. Equations: docs/methods/studies.md.
"""
