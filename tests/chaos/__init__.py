"""Chaos: kill anything, at any time, and compare what is left with what was sent.

`python -m chaos --help` (with `tests` on the path) runs it by hand; `test_chaos.py` runs a short
form. `ledger` says what must come out, `fleet` is what gets killed, `mayhem` does the killing,
`comparison` tells the differences.
"""
