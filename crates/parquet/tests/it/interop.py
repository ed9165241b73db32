"""Reads files with three independent readers and prints what each found, one JSON object per line.

usage: interop.py read FILE | interop.py size (FILE CODEC LEVEL)...
"""
import json
import os
import sys
import tempfile

try:
    import duckdb
    import polars
    import pyarrow.parquet
except ImportError as missing:
    sys.exit(f"MISSING {missing.name}")


def read(path):
    table = pyarrow.parquet.read_table(path)
    yield "pyarrow", table.num_rows, {
        "id": sum(table["id"].to_pylist()),
        "f64": sum(v for v in table["f64"].to_pylist() if v is not None),
        "money": str(sum(v for v in table["money"].to_pylist() if v is not None)),
        "name": sum(len(v) for v in table["name"].to_pylist() if v is not None),
        "blob": sum(len(v) for v in table["blob"].to_pylist() if v is not None),
        "ts": sum(v for v in table["ts"].cast("int64").to_pylist() if v is not None),
        "ts_utc": sum(v for v in table["ts_utc"].cast("int64").to_pylist() if v is not None),
        "day": sum(v for v in table["day"].cast("int32").to_pylist() if v is not None),
        "flag": sum(1 for v in table["flag"].to_pylist() if v),
        "tags": sum(len(v) for v in table["tags"].to_pylist() if v is not None),
        "point": sum(v["x"] for v in table["point"].to_pylist() if v and v["x"] is not None),
        "null_name": table["name"].null_count,
    }
    frame = polars.read_parquet(path)
    yield "polars", frame.height, {
        "id": frame["id"].sum(),
        "f64": frame["f64"].sum(),
        "money": str(frame["money"].sum()),
        "name": int(frame["name"].str.len_chars().sum()),
        "blob": int(frame["blob"].bin.size().sum()),
        "ts": frame["ts"].cast(polars.Int64).sum(),
        "ts_utc": frame["ts_utc"].cast(polars.Int64).sum(),
        "day": int(frame["day"].cast(polars.Int32).cast(polars.Int64).sum()),
        "flag": int(frame["flag"].sum()),
        "tags": int(frame["tags"].list.len().sum()),
        "point": frame["point"].struct.field("x").sum(),
        "null_name": frame["name"].null_count(),
    }
    duckdb.execute("set timezone = 'UTC'")
    row = duckdb.sql(f"""
        select count(*), sum(id), sum(f64), sum(money)::varchar, sum(length(name)), sum(octet_length(blob)),
               sum(epoch_us(ts)), sum(epoch_us(ts_utc)), sum(date_diff('day', date '1970-01-01', day)),
               count(*) filter (flag), sum(len(tags)), sum(point.x), count(*) - count(name)
        from read_parquet('{path}')""").fetchall()[0]
    keys = ["id", "f64", "money", "name", "blob", "ts", "ts_utc", "day", "flag", "tags", "point", "null_name"]
    exact = {k: v if isinstance(v, (float, str)) else int(v) for k, v in zip(keys, row[1:])}
    yield "duckdb", row[0], exact


def size(*args):
    for at in range(0, len(args), 3):
        yield from size_one(*args[at : at + 3])


def size_one(path, codec, level):
    level = int(level) or None
    table = pyarrow.parquet.read_table(path)
    with tempfile.TemporaryDirectory() as into:
        out = os.path.join(into, "f.parquet")
        pyarrow.parquet.write_table(table, out, compression=codec, compression_level=level)
        yield "pyarrow", os.path.getsize(out), {}
        polars_codec = {"none": "uncompressed"}.get(codec, codec)
        polars.from_arrow(table).write_parquet(out, compression=polars_codec, compression_level=level)
        yield "polars", os.path.getsize(out), {}
        duck_codec = {"none": "uncompressed", "lz4": "lz4_raw"}.get(codec, codec)
        options = f", compression_level {level}" if level else ""
        duckdb.sql(f"copy (from '{path}') to '{out}' (format parquet, compression {duck_codec}{options})")
        yield "duckdb", os.path.getsize(out), {}


for reader, number, sums in {"read": read, "size": size}[sys.argv[1]](*sys.argv[2:]):
    print(json.dumps({"reader": reader, "number": number, "sums": sums}, sort_keys=True))
