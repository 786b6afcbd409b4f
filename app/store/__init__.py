"""The store: rows, the life of a job, and where files live. It knows neither Flask nor Celery.

Read `lifecycle` first, then `tables`, then `jobs`. Functions here take a
session and never commit: the caller opens `Database.reading` or
`Database.writing` and thereby says what belongs together.
"""
