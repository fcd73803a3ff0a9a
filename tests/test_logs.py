"""Logs: JSON and console, whose line it is, and no secret in any line, whoever wrote it."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import pytest
import redis

from okasie_tasks import logs, masking
from okasie_tasks.errors import ConfigurationError, SourceError
from okasie_tasks.marketplace.request_log import log_failed
from okasie_tasks.ports import Feedback, Permit, RequestLog
from okasie_tasks.settings import LogSettings, load_settings
from okasie_tasks.store.limiter import RedisLimiter
from tests.sync.http_scenario import HttpScenario, varied

KEY = 'CANARY-"quoted"\\é-9f2c'
"""What JSON, repr and URLs each write in a way of their own."""

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The root logger, hooks and known secrets as they were."""
    monkeypatch.setattr(masking, "_known", ())
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:], root.level = handlers, level
    root.setLevel(level)


@pytest.fixture
def lines() -> Lines:
    """Logs are set up as JSON at level INFO; the lines so far."""
    stream = io.StringIO()
    logs.set_up(LogSettings(format="json"), level=logging.INFO, stream=stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


# -- the form ------------------------------------------------------------------------------------------------------


def test_a_line_is_an_object_with_its_facts(lines: Lines) -> None:
    logs.get_logger("okasie_tasks.sync.x").info("run ended", state="done", listings={"sold": 1})
    (line,) = lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info", "logger": "okasie_tasks.sync.x", "event": "run ended", "state": "done", "listings": {"sold": 1},
    }  # fmt: skip


def test_lines_of_others_tell_the_account_and_run_too(lines: Lines) -> None:
    with logs.about(account="dex", run="01J"):
        logging.getLogger("somebody.else").warning("odd: %s", "very")
        logs.get_logger("okasie_tasks.x").info("mine", run="another")
    logging.getLogger("somebody.else").warning("later")
    found = [(line["event"], line.get("account"), line.get("run")) for line in lines()]
    assert found == [("odd: very", "dex", "01J"), ("mine", "dex", "another"), ("later", None, None)]


def test_what_celery_says_of_a_message_names_its_account_and_run(lines: Lines) -> None:
    run = "01JABCDEFGHJKMNPQRSTVWXYZ0"
    data = {"name": "okasie.fetch_page", "id": "t1", "kwargs": f"{{'account': 'dex', 'run': '{run}', 'page': 2}}"}
    logging.getLogger("celery.worker.strategy").info("Task %(name)s received", data, extra={"data": data})
    (line,) = lines()
    assert (line["account"], line["run"], line["task"], line["task_id"]) == ("dex", run, "okasie.fetch_page", "t1")
    assert "data" not in line


def test_on_the_console_it_is_one_readable_line() -> None:
    stream = io.StringIO()
    logs.set_up(LogSettings(), level=logging.INFO, stream=stream)
    with logs.about(account="dex"):
        logs.get_logger("okasie_tasks.x").warning("plan held", reason="too many sells", count=3)
    said = stream.getvalue()
    assert said.count("\n") == 1
    assert "[warning  ] plan held" in said
    assert "account=dex count=3 " in said
    assert "reason='too many sells'" in said


def test_the_level_of_the_settings_stands_over_that_of_the_command_line(tmp_path: Path) -> None:
    def level(text: str, **environ: str) -> int:
        file = tmp_path / "okasie.toml"
        file.write_text(text)
        logs.set_up(load_settings(file, environ).log, level=logging.INFO, stream=io.StringIO())
        return logging.getLogger().level

    assert level("") == logging.INFO
    assert level("[log]\nlevel = 'warning'") == logging.WARNING
    assert level("[log]\nlevel = 'warning'", OKASIE_LOG__LEVEL="DEBUG") == logging.DEBUG
    with pytest.raises(ConfigurationError, match=r"log\.format: got 'xml', expected 'console' or 'json'"):
        level("", OKASIE_LOG__FORMAT="xml")


def test_setting_up_twice_writes_each_line_once() -> None:
    stream = io.StringIO()
    for _ in range(2):
        logs.set_up(LogSettings(), level=logging.INFO, stream=stream)
    logging.getLogger("x").info("once")
    assert stream.getvalue().count("once") == 1


# -- no secrets ----------------------------------------------------------------------------------------------------


def leak(how: str) -> None:
    """One way in which a secret comes to a log."""
    mine, others = logs.get_logger("okasie_tasks.x"), logging.getLogger("redis.connection")
    match how:
        case "our own fact":
            mine.warning("x", told={"deep": [KEY]})
        case "our own event":
            mine.warning(f"x {KEY}")
        case "the arguments of another library":
            others.warning("connecting with %r to %s", {"password": KEY}, KEY)
        case "a traceback":
            try:
                raise ValueError(f"cannot log in with {KEY}")
            except ValueError:
                mine.exception("x")
        case "the cause of an error":
            try:
                try:
                    raise ValueError(KEY)
                except ValueError as error:
                    raise RuntimeError("outer") from error
            except RuntimeError:
                others.exception("x")
        case "a warning":
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.warn(f"deprecated: {KEY}", stacklevel=1)
        case "a crash":
            try:
                raise KeyError(KEY)
            except KeyError:
                sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        case "a thread that crashed":

            def crash() -> None:
                raise ValueError(KEY)

            thread = threading.Thread(target=crash)
            thread.start()
            thread.join()
        case "an address":
            others.warning("GET https://user:%s@host/feed", masking.quote(KEY, safe=""))
        case "an object's own text":
            mine.warning("x", thing=Path(KEY))


WAYS = (
    "our own fact", "our own event", "the arguments of another library", "a traceback", "the cause of an error",
    "a warning", "a crash", "a thread that crashed", "an address", "an object's own text",
)  # fmt: skip


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("how", WAYS)
def test_no_line_shows_a_secret(how: str, form: Any) -> None:
    stream = io.StringIO()
    logs.set_up(LogSettings(format=form), level=logging.INFO, stream=stream)
    masking.know(KEY)
    leak(how)
    said = stream.getvalue()
    assert "9f2c" not in said
    assert "***" in said, "the line is there all the same"


@pytest.mark.parametrize("how", WAYS)
def test_each_of_these_ways_would_show_it(how: str) -> None:
    stream = io.StringIO()
    logs.set_up(LogSettings(), level=logging.INFO, stream=stream)
    leak(how)
    assert "9f2c" in stream.getvalue()


def test_a_line_that_cannot_be_formatted_is_told_without_it(capfd: pytest.CaptureFixture[str], lines: Lines) -> None:
    masking.know(KEY)
    (ours,) = [handler for handler in logging.getLogger().handlers if isinstance(handler, logs._Ours)]
    record = logging.LogRecord("somebody.else", logging.WARNING, "", 1, "%d cars", (KEY,), None)
    ours.handle(record)  # pytest's own handler would raise
    assert lines() == []
    said = capfd.readouterr().err
    assert "a line of somebody.else could not be logged" in said
    assert "9f2c" not in said


def test_what_was_revealed_or_stands_in_an_address_is_known(tmp_path: Path) -> None:
    file = tmp_path / "okasie.toml"
    file.write_text(
        '[redis]\nurl = "redis://:canary-redis@127.0.0.1/0"\n'
        '[accounts.dex]\napi_key = "env:KEY"\n'
        '[accounts.dex.source]\ntype = "sql"\nquery = "q"\nurl = "env:SQL"\n'
    )
    settings = load_settings(
        file, {"KEY": "canary-key", "SQL": "postgresql://me:canary%40sql@db/cars?sslmode=verify-full"}
    )
    settings.accounts["dex"].source.location()
    told = masking.mask("canary-redis canary-key canary%40sql canary@sql verify-full db/cars me")
    assert told == "*** *** *** *** verify-full db/cars me"
    error = SourceError("the database said: no login for canary@sql", where="postgresql://me:canary%40sql@db")
    assert str(error) == "postgresql://me:***@db: the database said: no login for ***"


def test_a_key_in_a_file_that_is_refused_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "okasie.toml"
    file.write_text(
        '[accounts.dex]\napi_key = "canary-key"\nbase_url = "https://u:canary-url@host"\nconflict = "canary-key"\n'
        '[accounts.dex.source]\nurl = "http://u:canary-feed@host/x"\ntype = "canary-feed"\n'
    )
    with pytest.raises(ConfigurationError) as caught:
        load_settings(file, {})
    assert "canary" not in str(caught.value)
    assert "accounts.dex.conflict: got '***'" in str(caught.value)


def test_short_values_and_settings_in_addresses_are_left_alone() -> None:
    masking.know("abc")
    masking.know_url("rediss://host/0?ssl_cert_reqs=required&token=abcdef")
    assert masking.mask("abc required abcdef") == "abc required ***"


def test_what_contains_another_secret_is_masked_whole() -> None:
    for secret in ("canary", "canary-long", "canary-longer"):
        masking.know(secret)
    assert masking.mask("canary-longer canary") == "*** ***"


# -- how much is said ----------------------------------------------------------------------------------------------


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str, client: redis.Redis) -> Iterator[HttpScenario]:
    with HttpScenario(tmp_path, redis_url, rows=varied(120, seed=3)) as found:
        yield found


def test_an_unchanged_listing_costs_no_line(scenario: HttpScenario, lines: Lines) -> None:
    scenario.good_run()
    before = len(lines())
    scenario.good_run()
    told = [line["event"] for line in lines()[before:]]
    assert told == ["run ended", "cursor moved"]
    (end,) = [line for line in lines()[before:] if line["event"] == "run ended"]
    assert (end["account"], end["state"], end["listings"]["unchanged"]) == ("dex", "done", 120)
    assert end["requests"]["requests.list"] == 1


def test_many_rejects_are_told_by_twenty_lines_and_a_number(scenario: HttpScenario, lines: Lines) -> None:
    for row in scenario.rows[:30]:
        row["price_eur"] = "-1"
    scenario.run()
    found = [line for line in lines() if line["event"].startswith("listing rejected")]
    told = [line for line in found if line["event"] == "listing rejected"]
    assert sum(line.get("more", 0) for line in found) + len(told) == 30
    assert len(told) <= logs.MOST_LINES * len({line.get("run") for line in told}) + len(found)
    assert all(line["reference"] and line["reason"] and line["run"] for line in told)
    scenario.run()
    assert [line for line in lines() if line["event"].startswith("listing rejected")] == found, "known ones are no news"


@pytest.mark.parametrize(
    ("status", "told", "level", "pause"),
    [
        (429, "429: the account pauses", "warning", "429"),
        (500, "request failed", "warning", None),
        (0, "request failed", "warning", None),
        (401, "request failed", "error", None),
        (200, None, None, None),
        (422, None, None, None),  # told with the listing
    ],
)
def test_a_failed_request_is_told_with_its_id_and_what_the_account_does_now(
    client: redis.Redis, lines: Lines, status: int, told: str | None, level: str | None, pause: str | None
) -> None:
    limiter = RedisLimiter(client, prefix="okasie:", bucket="dex")
    log_failed(answered(limiter, status), limiter)
    if told is None:
        assert lines() == []
        return
    (line,) = lines()
    assert (line["event"], line["level"], line["account"]) == (told, level, "dex")
    assert (line["request_id"], line["status"], line["method"]) == ("r1", status or None, "GET")
    assert (line.get("pause_reason"), line.get("pause_seconds", 0) > 25) == (pause, pause is not None)


def test_the_breaker_that_opens_is_told(client: redis.Redis, lines: Lines) -> None:
    limiter = RedisLimiter(client, prefix="okasie:", bucket="dex", burst_per_second=100)
    for _ in range(5):
        log_failed(answered(limiter, 503), limiter)
    found = [(line["event"], line["level"]) for line in lines()]
    assert found == [("request failed", "warning")] * 4 + [("request failed; the breaker is open", "error")]


def answered(limiter: RedisLimiter, status: int) -> RequestLog:
    """One request that got this answer, as the door reports it."""
    permit = limiter.acquire(f"t{uuid4().hex}", "urgent", 25.0)
    assert isinstance(permit, Permit)
    limiter.report(permit, Feedback(status=status, retry_after=30.0 if status == 429 else None))
    return RequestLog(
        account="dex", lane="urgent", kind="list", method="GET", status=status, seconds=0.1, request_id="r1"
    )


# -- texts from outside --------------------------------------------------------------------------------------------

FORGED = "Golf\x1b[2J\x9b1m\u202e\u2028\r\n2026-11-25T10:00:00Z [error] forged"


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_text_from_outside_forges_no_line_and_controls_no_terminal(form: Literal["console", "json"]) -> None:
    stream = io.StringIO()
    logs.set_up(LogSettings(format=form), level=logging.INFO, stream=stream)
    log = logs.get_logger("okasie_tasks.x")
    log.info("run ended", reason=FORGED, listings={FORGED: [FORGED]})
    logging.getLogger("somebody.else").warning("odd: %s", FORGED)
    log.info("run ended", reason=str(SourceError(FORGED, where=FORGED)))
    try:
        raise ValueError(FORGED)
    except ValueError:
        log.exception("unexpected")
    text = stream.getvalue()
    assert not set("\x1b\x9b\u202e\u2028\r").intersection(text)
    assert not [line for line in text.splitlines() if line.startswith("2026-11-25")]
    assert text.count("Traceback") == 1
    if form == "json":
        first, second, *_ = map(json.loads, text.splitlines())
        assert (first["reason"], first["listings"]) == (FORGED, {FORGED: [FORGED]}), "nothing is lost"
        assert second["event"] == f"odd: {FORGED}"


def test_what_is_readable_stays_as_it_is() -> None:
    for text in ("Citroën C4 – 9\u00a0500 €", "家族の車", "سيارة", "👨\u200d👩\u200d👧"):
        assert masking.clean(text) == text
        assert masking.json_escaped(text) == text
    assert masking.clean("a\nb\ud800") == "a\\nb\\ud800"
