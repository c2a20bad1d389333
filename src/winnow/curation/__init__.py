"""Curation: annotate every sample, select by rules, and keep a reason for every drop."""
