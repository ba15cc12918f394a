"""Tables of a run in Parquet files, with a checksum of their contents."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from redqubit import reading
from redqubit.storage.files import damaged, replacing

_KEY = b"sha256"


def save_table(table: pa.Table, path: Path) -> None:
    """Write a table, whole or not at all.

    Raises:
        UsageError: If the file cannot be written.
    """
    with replacing(path) as file:
        pq.write_table(table.replace_schema_metadata({_KEY: _digest(table)}), file)


def load_table(path: Path, *, cell: str = "") -> pa.Table:
    """Read what `save_table` wrote.

    Args:
        path: The file.
        cell: Name of the cell that wrote it, for the error.

    Raises:
        UsageError: If the file is absent or damaged.

    Example:
        >>> tmp.mkdir(exist_ok=True)
        >>> save_table(pa.table({"label": [3, 1]}), tmp / "labels.parquet")
        >>> load_table(tmp / "labels.parquet")["label"].to_pylist()
        [3, 1]
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(Path(path).read_bytes()))
        groups = (file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
        # equal values take no room in the file, but in a table
        asked = max(sum(groups), 8 * file.metadata.num_rows * file.metadata.num_columns)
        if asked > reading.MAX_BYTES:
            raise ValueError(f"it asks for {asked:,} bytes")
        table = file.read()
        if (table.schema.metadata or {}).get(_KEY) != _digest(table):
            raise ValueError("its checksum is wrong or missing")
    except FileNotFoundError:
        raise damaged(path, "it is not there", cell=cell) from None
    except (pa.ArrowException, OSError, ValueError, MemoryError, KeyError) as error:
        raise damaged(path, error, cell=cell) from None
    return table.replace_schema_metadata(None)


def _digest(table: pa.Table) -> bytes:
    """Return a hash of names, types and values, which do not depend on how the rows are cut into pieces."""
    digest = hashlib.sha256()
    for name, column in zip(table.column_names, table.columns, strict=True):
        digest.update(f"{name} {column.type} {len(column)}\n".encode())
        values = column.to_numpy()
        digest.update("\0".join(map(str, values)).encode() if values.dtype == object else values.tobytes())
    return digest.hexdigest().encode()
