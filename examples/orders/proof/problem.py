"""What ends the demo early."""


class DemoFailed(Exception):
    """The demo can't go on; the message says why."""
