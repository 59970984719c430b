"""The catalog topic, and the changes that are written for rankers."""

from flink_jobs.settings.settings import Settings
from flink_jobs.sql.ddl import RAW_SOURCE, create_table, epoch_ms_of, source_options
from udfs.bundles.changes import FOLDER as CHANGES_FOLDER
from udfs.bundles.changes import SCHEMA as CHANGES_SCHEMA
from udfs.lake.schema import flink_columns


def catalog_table(settings: Settings) -> str:
    """The raw records of `catalog`, from the earliest on: a new job goes through all items, a restored one goes on."""
    options = source_options(settings, settings.topics.catalog, "-catalog", "earliest-offset")
    return create_table("catalog_records", RAW_SOURCE, options)


def segments_table(settings: Settings) -> str:
    """The sink of the items that were read, see udfs.segments; a file for each checkpoint that has any."""
    folder = settings.bundle_folder / CHANGES_FOLDER
    options = {"connector": "filesystem", "path": folder.as_uri(), "format": "parquet"}
    return create_table("segments", flink_columns(CHANGES_SCHEMA), options)


ITEMS_VIEW = "SELECT *, read_items(`key`, `value`) AS item FROM catalog_records"


def insert_segments() -> str:
    """The items that could be read, and those that were removed, to the segments."""
    columns = {name: f"item.{name}" for name in CHANGES_SCHEMA.names}
    columns |= {"written": epoch_ms_of("`timestamp`"), "offset": "`offset`"}
    listed = ", ".join(f"{value} AS `{name}`" for name, value in columns.items())
    return f"INSERT INTO segments SELECT {listed} FROM items WHERE item.error IS NULL"
