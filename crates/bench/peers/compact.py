"""Rewrites Parquet files into one, with the same compression and row groups, and syncs it."""

import os
import time

from exchange import absent, answer, files_of, params

ROW_GROUP_ROWS = 262_144
LEVEL = 1


def by_pyarrow(files, target):
    import pyarrow.dataset as dataset
    import pyarrow.parquet as parquet

    scanner = dataset.dataset(files).scanner(batch_size=ROW_GROUP_ROWS)
    with parquet.ParquetWriter(
        target, scanner.projected_schema, compression="zstd", compression_level=LEVEL
    ) as writer:
        for batch in scanner.to_batches():
            writer.write_batch(batch, row_group_size=ROW_GROUP_ROWS)


def by_polars(files, target):
    import polars

    polars.scan_parquet(files).sink_parquet(
        target, compression="zstd", compression_level=LEVEL, row_group_size=ROW_GROUP_ROWS
    )


def by_duckdb(files, target):
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET threads = %d" % len(os.sched_getaffinity(0)))
    names = ", ".join("'" + path + "'" for path in files)
    connection.execute(
        "COPY (SELECT * FROM read_parquet([%s])) TO '%s' (FORMAT parquet, COMPRESSION zstd, "
        "COMPRESSION_LEVEL %d, ROW_GROUP_SIZE %d)" % (names, target, LEVEL, ROW_GROUP_ROWS)
    )


LIBRARIES = {"pyarrow": by_pyarrow, "polars": by_polars, "duckdb": by_duckdb}


def rows_of(path):
    import pyarrow.parquet as parquet

    return parquet.ParquetFile(path).metadata.num_rows


def main():
    given = params()
    files = files_of(given["dir"])
    size = sum(os.path.getsize(path) for path in files)
    target = given["scratch"] + "/compacted"
    rewrite = LIBRARIES[given["library"]]
    try:
        # The import is not what is measured.
        __import__(given["library"])
        begin = time.monotonic()
        rewrite(files, target)
        with open(target, "rb") as written:
            os.fsync(written.fileno())
        seconds = time.monotonic() - begin
        answer(size / 1e6 / seconds, check=str(rows_of(target)))
    except ModuleNotFoundError as error:
        absent(error)


main()
