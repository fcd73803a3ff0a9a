"""Chaos: whatever is killed, stopped, cut or refused at a random moment, the marketplace is right in the end.

``python -m tests.chaos`` plays rounds by seed; see `tests.chaos.__main__`.
"""
