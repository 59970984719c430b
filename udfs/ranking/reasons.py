"""Reasons of recommended items."""

#: Reasons quote a text up to this many characters, so that no query makes a record too large for Kafka.
MAX_QUOTE_CHARS = 256

#: What a source says for itself where no item of the session does.
SAYINGS = {
    "similar_sessions": "taken in similar sessions",
    "co_visit": "taken together by others",
    "content": "a likeness of titles",
    "popularity": "popular in this shop",
    "history": "from sessions before this one",
    "category": "popular among its like",
    "listing": "where it stands among the shop's items",
    "price": "by its price",
    "session": "where this session stands",
    "diversity": "unlike the items before it",
}
