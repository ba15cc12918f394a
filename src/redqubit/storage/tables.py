"""Tables of a run in Parquet files, with a checksum of their contents."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
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
        _allow(Path(path).stat().st_size)
        table = _read(Path(path).read_bytes())
        if (table.schema.metadata or {}).get(_KEY) != _digest(table):
            raise ValueError("its checksum is wrong or missing")
    except FileNotFoundError:
        raise damaged(path, "it is not there", cell=cell) from None
    except (pa.ArrowException, OSError, ValueError, MemoryError, KeyError) as error:
        raise damaged(path, error, cell=cell) from None
    return table.replace_schema_metadata(None)


def _read(content: bytes) -> pa.Table:
    """Return a table of numbers and short texts that takes no more memory than it may, whatever the file says."""
    metadata = pq.read_metadata(pa.BufferReader(content))
    schema = metadata.schema.to_arrow_schema()
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    if odd := [str(field.type) for field in schema if not (field.name in texts or pa.types.is_primitive(field.type))]:
        raise ValueError(f"it holds {odd[0]}")
    # nothing of a single column is asked for: where that is broken, Arrow ends the process
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    # equal values take no room in the file, but in a table; of a text each kind is read once, and then counted
    rows = max(metadata.num_rows, sum(group.num_rows for group in groups))
    _allow(max(sum(group.total_byte_size for group in groups), 8 * rows * len(schema)))
    table = pq.read_table(pa.BufferReader(content), read_dictionary=texts, partitioning=None)
    parts = [part for name in texts for part in table[name].chunks]
    _allow(sum(pc.sum(pc.binary_length(part.dictionary).take(part.indices)).as_py() or 0 for part in parts))
    return table.cast(schema.with_metadata(table.schema.metadata))


def _allow(n_bytes: int) -> None:
    if n_bytes > reading.MAX_BYTES:
        raise ValueError(f"it asks for {n_bytes:,} bytes")


def _digest(table: pa.Table) -> bytes:
    """Return a hash of names, types and values, which do not depend on how the rows are cut into pieces."""
    digest = hashlib.sha256()
    for name, column in zip(table.column_names, table.columns, strict=True):
        digest.update(f"{name} {column.type} {len(column)}\n".encode())
        values = column.to_numpy()
        digest.update("\0".join(map(str, values)).encode() if values.dtype == object else values.tobytes())
    return digest.hexdigest().encode()
