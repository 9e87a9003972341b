"""The durable state of one well: queue, journal, events, schedules, in one transaction.

`records` holds the rows as the engine speaks of them, `protocol` the verbs; `postgres` and `sqlite` keep both promises.
"""
