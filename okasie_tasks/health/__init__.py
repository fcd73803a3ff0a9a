"""Whether this machine's workers are alive, by files that they write: without Redis, and without Celery to read them.

Standard library and msgspec only, because ``okasie health`` runs every few seconds beside each worker.
"""
