"""The catalog topic, and the changed items that the catalog job writes for rankers."""

from flink_jobs.settings.settings import Settings
from flink_jobs.sql.ddl import RAW_SOURCE, create_table, epoch_ms_of, source_options
from udfs.bundles.changes import FOLDER as CHANGES_FOLDER
from udfs.bundles.changes import SCHEMA as CHANGES_SCHEMA
from udfs.core.paths import flink_uri
from udfs.lake.schema import flink_columns


def catalog_table(settings: Settings) -> str:
    """Writes the DDL of `catalog_records`, raw, from the earliest on: a new job reads all items."""
    options = source_options(settings, settings.topics.catalog, "-catalog", "earliest-offset")
    return create_table("catalog_records", RAW_SOURCE, options)


def changes_table(settings: Settings) -> str:
    """Writes the DDL of `segments`, the sink of changed items: a file per checkpoint that has any."""
    folder = settings.bundle_folder / CHANGES_FOLDER
    options = {"connector": "filesystem", "path": flink_uri(folder), "format": "parquet"}
    return create_table("segments", flink_columns(CHANGES_SCHEMA), options)


ITEMS_VIEW = "SELECT *, read_items(`key`, `value`) AS item FROM catalog_records"


def insert_changes() -> str:
    """Sends readable and removed items to `segments`."""
    columns = {name: f"item.{name}" for name in CHANGES_SCHEMA.names}
    columns |= {"written": epoch_ms_of("`timestamp`"), "offset": "`offset`"}
    listed = ", ".join(f"{value} AS `{name}`" for name, value in columns.items())
    return f"INSERT INTO segments SELECT {listed} FROM items WHERE item.error IS NULL"
