"""The one error type that users see as a single line."""


class ShopstreamError(Exception):
    """Something a user can mend: the message names what is wrong and what would be right, in one line."""
