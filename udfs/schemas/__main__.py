"""Writes the JSON Schemas: `python -m udfs.schemas`."""

from udfs.schemas.generate import write_schemas

if __name__ == "__main__":
    write_schemas()
