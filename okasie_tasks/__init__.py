"""Keeps a car dealer's inventory in step with the Okasie marketplace.

Nothing is imported here on purpose: ``import okasie_tasks.core`` must never load Celery, and
``celery -A okasie_tasks`` finds the app in :mod:`okasie_tasks.celery` by itself.
"""

__version__ = "0.1.0"
