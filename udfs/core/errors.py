"""The one error type that users see as a single line, and how a command ends with it."""

import sys
from collections.abc import Callable


class ShopstreamError(Exception):
    """Something a user can mend: the message names what is wrong and what would be right, in one line."""


def exit_with_one_line(command: Callable[[], object]) -> None:
    """Run a command; an error that a user can mend is one line on standard error and exit code 1, Ctrl-C is 130."""
    try:
        command()
    except KeyboardInterrupt:
        sys.exit(130)
    except (ShopstreamError, OSError) as error:
        sys.stderr.write("error: " + " ".join(str(error).split()) + "\n")
        sys.exit(1)
