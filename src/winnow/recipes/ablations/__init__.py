"""Ablation studies: the same training over and over with one thing changed, and what it changes.

`study.py` says what a study is, `methods.py` what can be compared, `running.py` runs it. Nothing is
imported here: a process that waits for a cell needs no torch yet.
"""
