"""Celery's settings, each with its reason. Data only; the URLs and the schedule come from ``okasie.toml``.

To use other values, edit the top-level ``celeryconfig.py``, which starts from these.
"""

from __future__ import annotations

from typing import Any, Final

from kombu import Exchange, Queue

CONTROL: Final = "okasie.control"
URGENT: Final = "okasie.urgent"
API: Final = "okasie.api"
DIFF: Final = "okasie.diff"
FEEDS: Final = "okasie.feeds"
"""The reads of sources, if ``feeds.queue`` names it; else they are in `DIFF`."""

QUEUE_OF: Final = {
    "okasie.sync": CONTROL,
    "okasie.advance": CONTROL,
    "okasie.watchdog": CONTROL,
    "okasie.resume": CONTROL,
    "okasie.push": URGENT,
    "okasie.sell": URGENT,
    "okasie.send_urgent": URGENT,
    "okasie.preview": URGENT,
    "okasie.fetch_page": API,
    "okasie.upsert_chunk": API,
    "okasie.mark_sold": API,
    "okasie.count_listings": API,
    "okasie.load_inventory": DIFF,
    "okasie.spool": DIFF,
    "okasie.confirm_sells": DIFF,
    "okasie.diff_chunk": DIFF,
}
"""Every task and its queue. The routes are made from it, and a test compares it with the registered tasks."""

WATCHDOG_SECONDS: Final = 10.0

VISIBILITY_SECONDS: Final = 30
"""A dead worker's messages are redelivered after this time; live workers renew theirs (`LeaseKeeper`)."""
SWEEP_SECONDS: Final = 5

STOP_SECONDS: Final = {"control": 30.0, "urgent": 150.0, "api": 150.0, "diff": 330.0}
"""How long each kind of worker may take to end after SIGTERM, before it is killed: its longest operation and some time.
That is a bulk call of 120 s, a read of the source, and for the others a short task. Idle workers end at once."""

SETTINGS: Final[dict[str, Any]] = {
    # -- messages: JSON of ids only, so that access to Redis does not allow running code on a worker -----------------
    "task_serializer": "json",
    "result_serializer": "json",
    "accept_content": ["json"],
    "result_accept_content": ["json"],
    "task_protocol": 2,
    # -- queues: a misspelt queue must fail, not fill a list that no worker consumes ----------------------------------
    "task_default_queue": CONTROL,
    # Each has an exchange and a key: otherwise all queues are bound to those of the default queue.
    "task_queues": [Queue(name, Exchange(name), routing_key=name) for name in (CONTROL, URGENT, API, DIFF, FEEDS)],
    "task_create_missing_queues": False,
    "task_routes": {name: {"queue": queue} for name, queue in QUEUE_OF.items()},
    # -- delivery: at least once; the run's record makes a second delivery harmless -----------------------------------
    "task_acks_late": True,
    # Without it, a message whose child dies is acknowledged as failed, in spite of late acknowledgement.
    "task_reject_on_worker_lost": True,
    # A message that killed its process is retried after a short delay, not at once in the next process. Celery's
    # default delay is 180 s; a child's death should cost no more than 2 s in all. Other retries state their delay.
    "task_retry_on_worker_lost": True,
    "task_annotations": {"*": {"default_retry_delay": 0.5}},
    # Failures and time-outs are stored in the run's record; the message would only fail again.
    "task_acks_on_failure": True,
    "task_acks_on_timeout": True,
    # It would skip a redelivered chord part without counting it, and the chord would never end.
    "worker_deduplicate_successful_tasks": False,
    # Killing a child at an arbitrary point is worse than a duplicate, which finds its part closed.
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    # One message per free slot: a busy node must not hold messages that an idle one could process.
    "worker_prefetch_multiplier": 1,
    # -- the broker ---------------------------------------------------------------------------------------------------
    "broker_transport_options": {
        # Every consumer sweeps with its own value, and the shortest one takes effect: all processes use this file.
        "visibility_timeout": VISIBILITY_SECONDS,
        # By default kombu calls its sweep every 10 s and executes every tenth call.
        "unacked_restore_interval": SWEEP_SECONDS,
        "unacked_restore_throttle": 1,
        # A process killed during its sweep must not stop all sweeps for the default 5 minutes.
        "unacked_mutex_expire": 10,
        # A publish must not hang on a dead socket; longer than the blocking pop of 1 s.
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        # A silently dead connection (a firewall, a lost node) is detected within half a minute.
        "socket_keepalive": True,
        "health_check_interval": 15,
        # A threads pool acknowledges from many threads; kombu's default of 10 connections would make it fail.
        "max_connections": 100,
    },
    # Processes may start in any order; Redis may be the last.
    "broker_connection_retry_on_startup": True,
    # The process supervisor decides when to give up, not the hundredth reconnect.
    "broker_connection_max_retries": None,
    # A server that is full or loading its data returns errors: wait for it, too. By default the worker would end.
    "broker_channel_error_retry": True,
    # Retries for 15 s. Celery's default of three tries ends after 0.7 s, and a server away for 4 s lost a publish.
    "task_publish_retry_policy": {"max_retries": 10, "interval_start": 0, "interval_step": 0.5, "interval_max": 2},
    # -- results: only chords need them -------------------------------------------------------------------------------
    # The backend's connections retry commands (`okasie_tasks.worker.result_backend`), including the count of a chord's
    # parts, which Celery does not retry. Celery's retries on top would multiply their number.
    "result_backend_always_retry": False,
    # The manual asks for the same value here as on the broker (backends-and-brokers/redis, visibility timeout).
    "result_backend_transport_options": {
        "visibility_timeout": VISIBILITY_SECONDS,
        "retry_policy": {"max_retries": 0},
    },
    # As for the broker: a dead socket must not block a task indefinitely.
    "redis_socket_timeout": 10.0,
    "redis_socket_connect_timeout": 5.0,
    "redis_socket_keepalive": True,
    "redis_backend_health_check_interval": 15,
    # No result is read later than that; a chord's parts must outlive the longest run.
    "result_expires": 6 * 3600,
    "result_chord_expires": 2 * 86_400,
    # Parts override this. Other tasks have no result, so their senders need not subscribe.
    "task_ignore_result": True,
    # It costs one more write before each task, which may fail the task. Flower gets the state from events.
    "task_track_started": False,
    # -- limits: the longest part is a bulk call of 120 s; loads and spools are split into parts of seconds. Only the
    #    prefork pool enforces them, but in every pool a message's lease ends with them -------------------------------
    "task_soft_time_limit": 300,
    "task_time_limit": 330,
    # -- what Flower shows --------------------------------------------------------------------------------------------
    # Without the second, Flower does not show tasks that wait in a queue.
    "worker_send_task_events": True,
    "task_send_sent_event": True,
    # -- processes ----------------------------------------------------------------------------------------------------
    # SIGQUIT and a second Ctrl-C end a worker after this time: requests in flight can be answered. SIGTERM waits for
    # its tasks, so REMAP_SIGTERM=SIGQUIT, which Celery offers for long tasks, would only cut them off.
    "worker_soft_shutdown_timeout": 5.0,
    # A child above its memory limit is replaced after its task.
    "worker_max_tasks_per_child": 1000,
    "worker_max_memory_per_child": 400_000,  # KiB
    # Keep log handlers that were set up before the worker began.
    "worker_hijack_root_logger": False,
    "timezone": "UTC",
    "enable_utc": True,
    # -- Beat: the schedule is in Redis under a lock, so a second Beat stands by instead of doubling every run. There is
    #    no local file to move to another machine ---------------------------------------------------------------------
    "beat_scheduler": "okasie_tasks.worker.beat:Scheduler",
    # The lock is renewed at each loop.
    "beat_max_loop_interval": 5,
    # The default of 5 loops of 300 s would make a killed Beat an outage of 25 minutes.
    "redbeat_lock_timeout": 30,
    "redbeat_redis_options": {"socket_timeout": 5},
}
