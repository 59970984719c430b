"""SQL and Arrow types as PyFlink types."""

import pyarrow as pa
from pyflink.table import DataTypes
from pyflink.table.types import DataType

SQL_TYPES: dict[str, DataType] = {
    "STRING": DataTypes.STRING(),
    "BIGINT": DataTypes.BIGINT(),
    "DOUBLE": DataTypes.DOUBLE(),
}

_ARROW_TYPES: dict[pa.DataType, DataType] = {
    pa.string(): DataTypes.STRING(),
    pa.int32(): DataTypes.INT(),
    pa.int64(): DataTypes.BIGINT(),
    pa.float64(): DataTypes.DOUBLE(),
    pa.bool_(): DataTypes.BOOLEAN(),
    pa.binary(): DataTypes.BYTES(),
}


def row_type(schema: pa.Schema) -> DataType:
    """Convert an Arrow schema to a PyFlink ROW."""
    return DataTypes.ROW([DataTypes.FIELD(field.name, _data_type(field.type)) for field in schema])


def _data_type(arrow: pa.DataType) -> DataType:
    return DataTypes.ARRAY(_data_type(arrow.value_type)) if pa.types.is_list(arrow) else _ARROW_TYPES[arrow]
