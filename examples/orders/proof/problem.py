"""What can go wrong with the demo itself."""


class DemoFailed(Exception):
    """The demo can't go on; the message says why."""


class NotAnswered(Exception):
    """A request whose fate nobody knows: it may have been done or not. It is made again, with the same ids."""
