"""delta-rs: one commit per batch. It writes files and a log entry, and never calls fsync."""

from exchange import absent, answer, closed_loop, params, percentile

try:
    import pyarrow.parquet as parquet
    from deltalake import write_deltalake
except ModuleNotFoundError as error:
    absent(error)


def main():
    given = params()
    rows, millis = int(given["rows"]), int(given["millis"])
    table = parquet.read_table(given["sample"]).combine_chunks()
    path = given["scratch"] + "/table"
    state = {"begin": 0}

    def work():
        begin = state["begin"]
        if begin + rows > table.num_rows:
            begin = 0
        write_deltalake(path, table.slice(begin, rows), mode="append")
        state["begin"] = begin + rows

    latencies = closed_loop(work, millis)
    # Against the window where it was filled, else against the one commit that overran it.
    seconds = max(millis / 1000, sum(latencies))
    micros = {"p50": percentile(latencies, 500) * 1e6, "p99": percentile(latencies, 990) * 1e6}
    answer(len(latencies) * rows / seconds, **micros)


main()
