"""The worker: Celery tasks that train, and the reconciler that finds them work."""
