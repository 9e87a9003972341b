"""A well in Postgres 14 and later: the whole write path is one function, `commit_pile`; see migrations/0008_commit_pile.sql."""

from stepwell.store.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
