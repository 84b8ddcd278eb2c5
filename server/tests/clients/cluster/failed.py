"""What is not as promised, and waiting for what is."""

import time


class Failed(Exception):
    """Something is not as promised."""


def wait_for(condition, seconds, what):
    """Waits until the condition holds; `what` says it in words, or is asked for them when it took too long."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failed(f"{what() if callable(what) else what}: not within {seconds} s")
        time.sleep(0.05)
