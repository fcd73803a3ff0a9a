"""Who asks, and what that person or program may do."""

from __future__ import annotations

from typing import NamedTuple

from okasie_tasks.settings.web import Role


class Identity(NamedTuple):
    """A token's name, role and accounts; None for all accounts.

    ``read``: everything can be read. ``push``: sync, push, sell, and the outcome of one's own requests. ``operate``:
    everything.
    """

    name: str
    role: Role
    accounts: frozenset[str] | None = None

    def sees(self, account: str) -> bool:
        """Return whether the account may be named at all: any other is as unknown as one that does not exist."""
        return self.accounts is None or account in self.accounts

    def may_read(self, account: str) -> bool:
        return self.role != "push" and self.sees(account)

    def may_send(self, account: str) -> bool:
        return self.role != "read" and self.sees(account)

    def may_operate(self, account: str) -> bool:
        return self.role == "operate" and self.sees(account)


LOCAL = Identity("local", "operate")
"""The person at this machine, who has read the start token."""
