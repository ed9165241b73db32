"""DuckDB over the same rows, in Parquet files that Alluvium wrote."""

import time

from exchange import absent, answer, files_of, median, params

try:
    import duckdb
except ModuleNotFoundError as error:
    absent(error)

MODULUS = 1_000_000_007


def fingerprint(rows):
    """The same sum that src/work/node_sql.rs computes of the answer's integers."""
    total = 0
    for position, row in enumerate(rows):
        for value in row:
            if isinstance(value, int):
                total = (total * 31 + (position + 1) * (value % MODULUS)) % MODULUS
    return total


def main():
    given = params()
    queries = given["queries"].split(";")
    connection = duckdb.connect()
    connection.execute("SET threads = " + given["threads"])
    files = ", ".join("'" + path + "'" for path in files_of(given["dir"]))
    connection.execute("CREATE VIEW flights AS SELECT * FROM read_parquet([" + files + "])")
    cold, warm, checks = [], [], []
    for query in queries:
        times = []
        for _ in range(int(given["repeats"]) + 1):
            begin = time.monotonic()
            rows = connection.execute(query).fetchall()
            times.append((time.monotonic() - begin) * 1000)
        cold.append(times[0])
        warm.append(median(times[1:]))
        checks.append(str(fingerprint(rows)))
    each = {"q%d" % (number + 1): value for number, value in enumerate(warm)}
    answer(sum(warm), check=",".join(checks), cold=sum(cold), **each)


main()
