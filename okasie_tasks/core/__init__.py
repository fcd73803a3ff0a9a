"""The decision core: pure, without I/O, importable on its own (``import okasie_tasks.core`` loads no Celery)."""
