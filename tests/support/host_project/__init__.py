"""A small project of somebody else, with a Celery app, queue and tasks of its own."""
