"""What a deployment edits: Celery settings that differ from okasie-tasks' own. Data only; no task is imported here.

Celery reads this file when it stands in the working directory of ``celery -A okasie_tasks ...``. The broker, the
result backend and the schedule come from okasie.toml. Start from the defaults and change what must differ, e.g.::

    worker_prefetch_multiplier = 1
    result_expires = 3600
"""
