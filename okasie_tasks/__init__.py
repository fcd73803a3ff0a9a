"""Keeps a car dealer's inventory in sync with the Okasie marketplace.

This module imports nothing on purpose: ``import okasie_tasks.core`` must never load Celery.
``celery -A okasie_tasks`` finds the app in :mod:`okasie_tasks.celery`.
"""

__version__ = "0.1.0"
