"""A well in one SQLite file (or in memory): apsw's bundled library, WAL, `synchronous=FULL`, one writer thread."""

from stepwell.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
