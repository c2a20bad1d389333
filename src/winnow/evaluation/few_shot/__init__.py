"""Few-shot probes: what a model's features are worth with 1 to 16 labelled pictures a class.

`shots.py` says which pictures, one file per method fits a classifier to them, `harness.py` runs all
of them on the same shots, `summary.py` takes the mean over subsets. Equations and sources:
docs/methods/few_shot.md.
"""
