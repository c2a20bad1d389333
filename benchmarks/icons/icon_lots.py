"""Lots: numbers by the hash of what they are for, so that adding one icon changes no other's."""

import hashlib


def lot(seed: int, *purpose: str) -> int:
    """A number of 64 bits for this purpose, the same on every machine."""
    name = "\0".join((str(seed), *purpose)).encode()
    return int.from_bytes(hashlib.sha256(name).digest()[:8], "big")


def chance(seed: int, *purpose: str) -> float:
    """The lot as a number in [0, 1)."""
    return lot(seed, *purpose) / 2**64


def uid_of(*identity: str) -> str:
    """A pair's uid, 32 hex digits: of what it shows, not of its caption or bytes.

    So a pair keeps its uid, its place in the order and its crops whatever its caption is.
    """
    return hashlib.sha256("\0".join(("icons", *identity)).encode()).hexdigest()[:32]
