"""Celery's settings, with the reason beside each. Data only; the URLs and the schedule come from ``okasie.toml``.

A deployment that wants other values edits the top-level ``celeryconfig.py``, which starts from these.
"""

from __future__ import annotations

from typing import Any, Final

from kombu import Exchange, Queue

CONTROL: Final = "okasie.control"
URGENT: Final = "okasie.urgent"
API: Final = "okasie.api"
DIFF: Final = "okasie.diff"

QUEUE_OF: Final = {
    "okasie.sync": CONTROL,
    "okasie.advance": CONTROL,
    "okasie.watchdog": CONTROL,
    "okasie.resume": CONTROL,
    "okasie.push": URGENT,
    "okasie.sell": URGENT,
    "okasie.send_urgent": URGENT,
    "okasie.fetch_page": API,
    "okasie.upsert_chunk": API,
    "okasie.mark_sold": API,
    "okasie.count_listings": API,
    "okasie.load_inventory": DIFF,
    "okasie.spool": DIFF,
    "okasie.diff_chunk": DIFF,
}
"""Every task and its queue: named here once, routed from here, checked by a test against the registered tasks."""

WATCHDOG_SECONDS: Final = 10.0

VISIBILITY_SECONDS: Final = 30
"""Dead workers' messages come again after so long; living workers renew theirs (`okasie_tasks.worker.bootsteps`)."""
SWEEP_SECONDS: Final = 5

SETTINGS: Final[dict[str, Any]] = {
    # -- what travels: JSON of ids only; whoever can write to Redis must not be able to run code ----------------------
    "task_serializer": "json",
    "result_serializer": "json",
    "accept_content": ["json"],
    "result_accept_content": ["json"],
    "task_protocol": 2,
    # -- queues: a misspelt queue must fail, not fill a list that nobody reads ----------------------------------------
    "task_default_queue": CONTROL,
    # An exchange and a key each: without them all queues are bound to the default queue's.
    "task_queues": [Queue(name, Exchange(name), routing_key=name) for name in (CONTROL, URGENT, API, DIFF)],
    "task_create_missing_queues": False,
    "task_routes": {name: {"queue": queue} for name, queue in QUEUE_OF.items()},
    # -- delivery: at least once; the run record decides what a second delivery does (nothing) -------------------------
    "task_acks_late": True,
    # Without it late acknowledgement means nothing when a child dies: the message is acknowledged as failed.
    "task_reject_on_worker_lost": True,
    # What killed its process comes again as a retry after a moment, not at once in the next process: Celery's own
    # delay is 180 s, and a child's death is to cost no more than 2 s in all. Every retry of ours names its delay.
    "task_retry_on_worker_lost": True,
    "task_annotations": {"*": {"default_retry_delay": 0.5}},
    # What failed or ran into its limit is told in the run's record; the message would fail again and again.
    "task_acks_on_failure": True,
    "task_acks_on_timeout": True,
    # It would skip a redelivered chord part without counting it, and the chord would wait for ever.
    "worker_deduplicate_successful_tasks": False,
    # Killing children at any bytecode is worse than a duplicate, which finds its part closed.
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    # One message per free slot: a busy node must not sit on work that an idle one could do.
    "worker_prefetch_multiplier": 1,
    # -- the broker ---------------------------------------------------------------------------------------------------
    "broker_transport_options": {
        # Every process that reads a queue sweeps by its own number, and the shortest wins: this one file is for all.
        "visibility_timeout": VISIBILITY_SECONDS,
        # kombu sweeps every 10 s and looks every tenth time.
        "unacked_restore_interval": SWEEP_SECONDS,
        "unacked_restore_throttle": 1,
        # A sweeper killed inside its lock must not stop all restoring for the default 5 minutes.
        "unacked_mutex_expire": 10,
        # A publish must not hang on a dead socket; longer than the blocking pop of 1 s.
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        # A connection that is dead without a word (a firewall, a node that is gone) is found in half a minute.
        "socket_keepalive": True,
        "health_check_interval": 15,
        # A threads pool acknowledges from many threads; kombu's default of 10 connections would make it fail.
        "max_connections": 100,
    },
    # Everything may start at once; Redis may be the last.
    "broker_connection_retry_on_startup": True,
    # The supervisor decides when to give up, not the hundredth reconnect.
    "broker_connection_max_retries": None,
    # A server that is full or loads its data answers with errors: wait for it too. Celery's default ends the worker.
    "broker_channel_error_retry": True,
    # 15 s of tries: a server away for 4 s lost a publish after 0.7 s with Celery's three tries.
    "task_publish_retry_policy": {"max_retries": 10, "interval_start": 0, "interval_step": 0.5, "interval_max": 2},
    # -- results: only chords need them -------------------------------------------------------------------------------
    # The backend's own connections try the commands again (`okasie_tasks.worker.result_backend`), the count of a
    # chord's parts too, which Celery's own retries leave out. Celery's retries around them would multiply with them.
    "result_backend_always_retry": False,
    # The manual asks for the same value here as on the broker (backends-and-brokers/redis, visibility timeout).
    "result_backend_transport_options": {
        "visibility_timeout": VISIBILITY_SECONDS,
        "retry_policy": {"max_retries": 0},
    },
    # As for the broker: a dead socket must not hold a task for ever.
    "redis_socket_timeout": 10.0,
    "redis_socket_connect_timeout": 5.0,
    "redis_socket_keepalive": True,
    "redis_backend_health_check_interval": 15,
    # Nobody reads a result later than that; a chord's parts must outlive the longest run.
    "result_expires": 6 * 3600,
    "result_chord_expires": 2 * 86_400,
    # Parts say otherwise for themselves; the others have nothing to tell, and who sends them need not subscribe.
    "task_ignore_result": True,
    # A write more before each task, and one more that can fail it; Flower learns it from events.
    "task_track_started": False,
    # -- limits: the longest part is a bulk call of 120 s; loads and spools are cut into parts of seconds. Only prefork
    #    has them, but a message's lease ends with them everywhere ----------------------------------------------------
    "task_soft_time_limit": 300,
    "task_time_limit": 330,
    # -- what Flower shows --------------------------------------------------------------------------------------------
    # Without the second, tasks that wait in a queue do not show.
    "worker_send_task_events": True,
    "task_send_sent_event": True,
    # -- processes ----------------------------------------------------------------------------------------------------
    # A child that grows is replaced when it has finished its task.
    "worker_max_tasks_per_child": 1000,
    "worker_max_memory_per_child": 400_000,  # KiB
    # Log handlers that were set up before the worker began stay.
    "worker_hijack_root_logger": False,
    "timezone": "UTC",
    "enable_utc": True,
    # -- Beat: the schedule lives in Redis under a lock, so a second Beat stands by instead of doubling every run, and
    #    no local file must survive a move to another machine ----------------------------------------------------------
    "beat_scheduler": "redbeat.RedBeatScheduler",
    # The lock is renewed at each loop.
    "beat_max_loop_interval": 5,
    # The default of 5 loops of 300 s would make a killed Beat an outage of 25 minutes.
    "redbeat_lock_timeout": 30,
    "redbeat_redis_options": {"socket_timeout": 5},
}
