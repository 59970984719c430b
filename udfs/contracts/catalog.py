"""Records of `catalog`."""

from msgspec import Struct

from udfs.contracts.fields import EpochMs, Id, NonNegative, Text, ZonedTime


class CatalogItem(Struct):
    """One record of `catalog`, keyed by item_id; a tombstone removes the item."""

    item_id: Id
    title: Text
    description: str | None = None
    category: str | None = None
    brand: str | None = None
    price: NonNegative | None = None
    in_stock: bool = True
    locale: str | None = None
    image_vector: list[float] | None = None
    updated_at: EpochMs | ZonedTime | None = None
