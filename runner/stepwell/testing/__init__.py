"""The test kit: durable functions in a test, with no server, under a manual clock, and with crashes on demand.

Install nothing more: the pytest plugin gives every test the `durable` fixture.
"""

from stepwell.testing.durable import Durable, TestRun

__all__ = ["Durable", "TestRun"]
