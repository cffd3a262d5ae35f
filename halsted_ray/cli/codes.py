"""Exit codes of every command."""

DONE, WRONG_USE, NOT_ALL, INTERRUPTED, TERMINATED = 0, 2, 3, 130, 143
"""``NOT_ALL``: done, but some videos failed or have gaps, findings are shown, or the gate refused."""
