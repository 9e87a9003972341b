"""What all tests share: one Postgres server for the whole session, started when the first test asks for it."""

pytest_plugins = ("postgres_server",)
