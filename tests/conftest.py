"""What all tests share: one Postgres server for the whole session, started when the first test asks for it; hypothesis' settings.

A busy machine makes no property false: hypothesis doesn't time examples, nor how long it takes to draw them. The first test that
draws text on a fresh machine pays for a table of all of Unicode, seconds of it, and would be blamed for a slow strategy.
"""

from hypothesis import HealthCheck, settings

pytest_plugins = ("postgres_server",)

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
