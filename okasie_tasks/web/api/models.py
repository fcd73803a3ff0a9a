"""Bodies of the API. Answers state their main keys; docs/cli.md and docs/reports.md describe all of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from okasie_tasks.core.pending import MOST_REFERENCES

Reference = Annotated[str, Field(min_length=1, max_length=64)]
References = Annotated[list[Reference], Field(min_length=1, max_length=MOST_REFERENCES)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SyncRequest(_Request):
    mode: Literal["incremental", "full"] = "incremental"


class PushRequest(_Request):
    """``references``, which are read from the source, or ``listings`` in the marketplace's write shape."""

    references: References | None = None
    listings: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MOST_REFERENCES)] | None = None
    version: Annotated[int, Field(ge=0, lt=2**48)] = 0
    """The caller's version of the listings, ms since the epoch; 0 for none."""

    @model_validator(mode="after")
    def _one(self) -> PushRequest:
        if (self.references is None) == (self.listings is None):
            raise ValueError("expected references or listings, one of them")
        return self


class SellRequest(_Request):
    references: References


class RetryRequest(_Request):
    """``references``: these refused listings; without them, all."""

    references: References | None = None


class _Answer(BaseModel):
    model_config = ConfigDict(extra="allow")


class Account(_Answer):
    account: str
    active: str | None
    waiting: str | None
    paused_since: str | None
    cursor: str | None
    last_run: dict[str, Any] | None
    quota: dict[str, Any]


class Accounts(_Answer):
    accounts: list[Account]
    attention: list[dict[str, Any]]
    """What waits for a person, the most urgent first."""


class Run(_Answer):
    run: str
    account: str
    mode: str
    state: str
    listings: dict[str, Any]
    requests: dict[str, Any]


class Runs(_Answer):
    account: str
    runs: list[Run]
    next: str | None


class Listings(_Answer):
    account: str
    listings: list[dict[str, Any]]
    count: int
    next: str | None


class Listing(_Answer):
    account: str
    reference: str
    listing_url: str | None
    ledger: dict[str, Any] | None
    reject: dict[str, Any] | None
    events: list[dict[str, Any]]
    next: str


class Rejects(_Answer):
    account: str
    rejects: list[dict[str, Any]]
    groups: list[dict[str, Any]]


class Plan(_Answer):
    """What is held; ``run`` null and no items when nothing is."""

    run: str | None
    holds: list[dict[str, Any]]
    items: list[dict[str, Any]]


class Accepted(BaseModel):
    request: str
    """The id of the request: `GET /requests/{id}` reports its outcome."""


class Started(BaseModel):
    run: str | None
    """The run that does it; null when there is nothing to do."""


class Retried(_Answer):
    run: str | None
    freed: list[str]
    invalid: list[str]
    not_parked: list[str]


class Paused(_Answer):
    account: str
    paused_since: str | None


class Outcome(_Answer):
    outcome: str
    message: str | None
    fields: list[str]


class RequestState(_Answer):
    request: str
    state: Literal["waiting", "done"]
    outcomes: dict[str, Outcome]
    run: str | None
    error: str | None


class Health(BaseModel):
    status: Literal["ok"]
