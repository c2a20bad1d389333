"""Exports: a model in the formats of other libraries, each loaded back there and compared.

A format is a file here with `refusals` (what it cannot hold), `write` and `differences` (what the
library that reads it makes of the same pictures and captions).
"""
