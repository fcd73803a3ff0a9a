"""The app's settings against the registered tasks, the schedule, and what a message holds."""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import redis
from celery import Celery
from celery.app.defaults import NAMESPACES, flatten
from celery.app.utils import filter_hidden_settings
from celery.exceptions import Retry

from okasie_tasks import masking
from okasie_tasks.celery import app, beat_schedule, configuration
from okasie_tasks.errors import SourceError
from okasie_tasks.ports import Offer
from okasie_tasks.services import Services
from okasie_tasks.settings import load_settings
from okasie_tasks.worker import settings
from okasie_tasks.worker.bootsteps import ChildWatch, KeepAddress, LeaseKeeper
from okasie_tasks.worker.settings import CONTROL, QUEUE_OF, SETTINGS
from okasie_tasks.worker.task_logging import MaskedTask

CONFIG = """\
[redis]
url = "redis://127.0.0.1:6379/5"
key_prefix = "garage:"
[accounts.dex]
api_key = "env:DEX"
incremental_every = "5m"
full_at = "03:30"
[accounts.dex.source]
url = "x.csv"
[accounts.quiet]
api_key = "env:QUIET"
incremental_every = "off"
full_at = "off"
[accounts.quiet.source]
url = "y.csv"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "okasie.toml"
    file.write_text(CONFIG)
    return file


@pytest.fixture(autouse=True)
def configured(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app of this process reads its configuration when it is first asked for anything."""
    monkeypatch.setenv("OKASIE_CONFIG", str(config))


def celery(config: Path, code: str, **env: str) -> str:
    """Run code in a separate process, which reads the configuration as a worker does."""
    argv = [sys.executable, "-c", code]
    environ = {"OKASIE_CONFIG": str(config), "PATH": "/usr/bin:/bin", **env}
    done = subprocess.run(
        argv, capture_output=True, text=True, cwd=config.parent, env=environ, timeout=300, check=False
    )
    return done.stdout + done.stderr


def test_every_task_has_its_queue_and_every_queue_is_declared() -> None:
    import okasie_tasks.tasks

    assert okasie_tasks.tasks is not None
    ours = {name for name in app.tasks if name.startswith("okasie.")}
    assert ours == set(QUEUE_OF)
    declared = {queue.name: queue for queue in SETTINGS["task_queues"]}
    assert set(QUEUE_OF.values()) | {settings.URGENT, settings.FEEDS} == set(declared)
    for name, queue in declared.items():
        assert (queue.exchange.name, queue.routing_key) == (name, name), "else all queues share one binding"


def test_every_setting_is_one_that_celery_knows() -> None:
    # The last is read by the Redis backend of 5.7 and missing in Celery's own table.
    known = {name for name, _ in flatten(NAMESPACES)} | {
        "redbeat_lock_timeout", "redbeat_redis_options", "redis_backend_health_check_interval",
    }  # fmt: skip
    assert set(SETTINGS) - known == set()


def test_messages_are_json_and_nothing_else_is_read() -> None:
    assert (SETTINGS["task_serializer"], SETTINGS["accept_content"], SETTINGS["task_protocol"]) == ("json", ["json"], 2)
    assert SETTINGS["result_accept_content"] == ["json"]


def test_a_chord_part_is_never_skipped_and_never_lost() -> None:
    assert SETTINGS["task_acks_late"]
    assert SETTINGS["task_reject_on_worker_lost"]
    assert not SETTINGS["worker_deduplicate_successful_tasks"]
    assert SETTINGS["worker_prefetch_multiplier"] == 1
    assert SETTINGS["task_time_limit"] > SETTINGS["task_soft_time_limit"]
    # Shorter than tasks may take: only with the step that renews leases, in every worker.
    assert SETTINGS["broker_transport_options"]["visibility_timeout"] < SETTINGS["task_soft_time_limit"]
    assert {LeaseKeeper, ChildWatch, KeepAddress} <= app.steps["consumer"]


NEVER_WAIT = ("okasie.sync", "okasie.advance", "okasie.watchdog", "okasie.push", "okasie.sell", "okasie.resume")
"""What must wait for a permit is continued by a message of another task."""


def test_tasks_retry_without_end_and_return_results_to_chords() -> None:
    for name, task in app.tasks.items():
        if name.startswith("okasie.") and name not in NEVER_WAIT:
            assert task.max_retries is None, f"{name}: waiting for a permit must not run out"
            alone = name in ("okasie.send_urgent", "okasie.preview")
            assert task.ignore_result is False or alone, f"{name}: a chord counts results"


def test_beat_triggers_both_kinds_for_every_account_and_the_watchdog(config: Path) -> None:
    entries = beat_schedule(load_settings(config, {}))
    assert set(entries) == {"okasie-watchdog", "okasie-dex-incremental", "okasie-dex-full"}
    incremental, full = entries["okasie-dex-incremental"], entries["okasie-dex-full"]
    assert incremental["schedule"].run_every == timedelta(minutes=5)
    assert incremental["kwargs"] == {"account": "dex", "mode": "incremental"}
    label = "dex: incremental run, by the clock"
    assert incremental["options"] == {"queue": CONTROL, "expires": 300.0, "argsrepr": label}
    assert full["kwargs"] == {"account": "dex", "mode": "full", "scheduled": True}
    assert (full["schedule"].hour, full["schedule"].minute) == ({1, 2}, {30}), "03:30 in Brussels, winter and summer"


@pytest.mark.parametrize(("due_hours_ago", "due"), [(0.2, True), (11, True), (13, False), (-2, False)])
def test_beats_ticks_ask_for_one_full_run_a_day(
    client: redis.Redis, redis_url: str, tmp_path: Path, due_hours_ago: float, due: bool
) -> None:
    at = datetime.now(ZoneInfo("Europe/Brussels")) - timedelta(hours=due_hours_ago)
    file = tmp_path / "okasie.toml"
    text = CONFIG.replace("redis://127.0.0.1:6379/5", redis_url)
    file.write_text(text.replace('full_at = "03:30"', f'full_at = "{at:%H:%M}"'))
    code = """
from okasie_tasks.services import services
from okasie_tasks.tasks import sync

def runs_after(account, **kwargs):
    sync.apply(kwargs={"account": account, "mode": "full", **kwargs}, throw=True)
    return len(services().runs.history(account))

print(*(runs_after("dex", **kwargs) for kwargs in ({"scheduled": True}, {"scheduled": True}, {}, {"scheduled": True})))
print(runs_after("quiet", scheduled=True))
"""
    assert celery(file, code) == ("1 1 2 2\n0\n" if due else "0 0 1 1\n0\n")


def test_an_account_has_a_write_back_or_none(config: Path) -> None:
    config.write_text(CONFIG + '[accounts.quiet.source.write_back]\nfile = "changes.jsonl"\n')
    services = Services(load_settings(config, {}))
    assert services.write_back("dex") is None
    back = services.write_back("quiet")
    assert back is not None
    assert back.write_back([Offer("A", "01J", 0, (("price", 1, 2),))]) == 1
    assert (config.parent / "changes.jsonl").read_text().count("\n") == 1


def test_our_prefix_and_server_reach_celery_and_redbeat(config: Path) -> None:
    conf = configuration(load_settings(config, {}))
    assert conf["broker_url"] == conf["redbeat_redis_url"] == "redis://127.0.0.1:6379/5"
    assert conf["result_backend"].endswith("+redis://127.0.0.1:6379/5")
    assert conf["redbeat_key_prefix"] == "garage:beat:"


def test_a_celeryconfig_in_the_working_directory_overrides_the_defaults(config: Path) -> None:
    code = "from okasie_tasks.celery import app; print(app.conf.result_expires, app.conf.worker_prefetch_multiplier)"
    assert celery(config, code).strip() == "21600 1"
    (config.parent / "celeryconfig.py").write_text("result_expires = 77\n")
    assert celery(config, code).strip() == "77 1"


def test_importing_the_app_needs_no_configuration(tmp_path: Path) -> None:
    assert celery(tmp_path / "none.toml", "import okasie_tasks.celery, okasie_tasks.tasks; print('ok')").strip() == "ok"


@pytest.mark.parametrize("command", ["worker", "beat"])
def test_a_bad_configuration_is_one_line_for_celery_commands_too(config: Path, command: str) -> None:
    config.write_text(CONFIG.replace("key_prefix", "key_prefx"))
    argv = [sys.executable, "-m", "celery", "-A", "okasie_tasks", command]
    env = {"OKASIE_CONFIG": str(config), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(argv, capture_output=True, text=True, cwd=config.parent, env=env, timeout=300, check=False)
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "redis.key_prefx: is not a setting (did you mean key_prefix?)" in output
    assert "Traceback" not in output


def test_messages_hold_keys_and_no_cargo(client: redis.Redis, redis_url: str, tmp_path: Path) -> None:
    """What is published for a run of thousands of listings is a handful of small messages."""
    file = tmp_path / "okasie.toml"
    file.write_text(CONFIG.replace("redis://127.0.0.1:6379/5", redis_url))
    code = """
from okasie_tasks.services import services
from okasie_tasks.tasks.dispatch import publish
ctx = services().context("dex")
ctx.runs.request("dex", "full")
run = ctx.runs.begin("dex")
ctx.runs.advance(run, "first", "walk", parts=4999)
publish(ctx, run)
from okasie_tasks.celery import app
assert app.backend.result_consumer.subscribed_to == set(), "no process waits for the parts"
assert [len(kept) for kept in app.backend._pending_results] == [0, 0]
"""
    assert celery(file, code) == ""
    messages: list[Any] = client.lrange("okasie.api", 0, -1)
    assert len(messages) == 2, "one window, not 5,000 messages"
    assert max(len(message) for message in messages) < 2_500
    assert not any(b"okasie.be" in message for message in messages)


def test_a_part_that_must_wait_is_published_for_later(client: redis.Redis, redis_url: str, tmp_path: Path) -> None:
    file = tmp_path / "okasie.toml"
    file.write_text(CONFIG.replace("redis://127.0.0.1:6379/5", redis_url))
    code = """
from okasie_tasks.services import services
from okasie_tasks.tasks.part_runner import requeue_part
from okasie_tasks.tasks.dispatch import send_parts
from okasie_tasks.sync.context import Part
requeue_part(services().context("dex"), Part("a-run", "walk", 3, "token"), 7, 9.5)
send_parts(services().context("dex"), "a-run", [("upsert", [8])])
send_parts(services().context("dex"), "a-run", [("upsert", [9, 10])])
"""
    assert celery(file, code) == ""
    messages: list[Any] = client.lrange("okasie.api", 0, -1)
    headers = {json.loads(message)["headers"]["argsrepr"]: json.loads(message)["headers"] for message in messages}
    assert set(headers) == {"dex: page 9 of 1", *(f"dex: chunk {number}" for number in (9, 10, 11))}
    assert headers["dex: page 9 of 1"]["eta"]
    assert headers["dex: chunk 9"]["eta"] is None
    for alone in ("dex: page 9 of 1", "dex: chunk 9"):
        assert headers[alone]["ignore_result"] is True, "it is in no chord, so it is not counted"
    assert not headers["dex: chunk 10"]["ignore_result"]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("redis://okasie:CANARY%40pw@redis.internal:6379/3", "redis://redis.internal:6379/3"),
        ("rediss://:CANARY%40pw@redis.internal/0", "rediss://redis.internal/0?ssl_cert_reqs=required"),
        ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
    ],
)
def test_what_celery_shows_of_its_configuration_holds_no_password(tmp_path: Path, url: str, host: str) -> None:
    """`inspect conf`, `report` and Flower's page of a worker mask what they know; redbeat's address is not among it."""
    file = tmp_path / "okasie.toml"
    file.write_text(f'[redis]\nurl = "{url}"\n')
    conf = configuration(load_settings(file, {}))
    assert "CANARY" not in repr(filter_hidden_settings(conf))
    assert conf["redbeat_redis_url"] == host
    expected = {"redis": "CANARY@pw", "rediss": "CANARY@pw"}.get(url.split(":", maxsplit=1)[0])
    assert conf["redbeat_redis_options"].get("password") == expected
    assert conf["redbeat_redis_options"].get("username") == ("okasie" if "okasie" in url else None)


@pytest.mark.parametrize("kind", ["a defect", "a condition raised from one", "a retry after one"])
def test_what_a_task_raises_shows_no_secret_in_its_traceback(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery keeps tracebacks of failures and retries in events and results, with all that an error was raised from."""
    monkeypatch.setattr(masking, "_known", ())
    password = "-".join(("CANARY", "pw"))  # a traceback shows lines of the source, too
    mine = Celery("mine", task_cls=MaskedTask, set_as_current=False)

    @mine.task(name="mine.task", shared=False)
    def task() -> None:
        try:
            raise ValueError(f"no login with {password}")
        except ValueError as error:
            if kind == "a condition raised from one":
                raise SourceError(f"the database returned an error: {password}") from error
            if kind == "a retry after one":
                raise Retry("again in 2 s") from error
            raise

    def raised() -> BaseException:
        task.push_request(called_directly=False, id="1")
        try:
            with pytest.raises(Exception) as caught:
                task()
            return caught.value
        finally:
            task.pop_request()

    assert "CANARY" in "".join(traceback.format_exception(raised())), "it would be shown"
    masking.know(password)
    error = raised()
    assert "CANARY" not in "".join(traceback.format_exception(error))
    assert type(error) is {"a defect": RuntimeError, "a retry after one": Retry}.get(kind, SourceError)
