"""Makes model bundles from an encoder, a catalog and past sessions.

A package imports only from those below it: `__main__` > `bundle` > `encoder`, `ranker` > `history`.
"""
