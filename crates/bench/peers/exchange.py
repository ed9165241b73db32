"""What the peers share: `key=value` words in, one JSON line out, as src/sample.rs has it."""

import json
import os
import sys
import time

ABSENT = 3


def params():
    words = [word.partition("=") for word in sys.argv[2:]]
    return {key: value for key, _, value in words}


def absent(error):
    """Ends as a peer that is not installed: that is not a failure."""
    print(error.name, file=sys.stderr)
    sys.exit(ABSENT)


def peak_bytes():
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("no VmHWM line")


def answer(value, check=None, **extra):
    sample = {"value": value, "extra": extra, "check": check, "rss_bytes": peak_bytes()}
    print(json.dumps(sample))


def median(values):
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 2]


def percentile(values, per_mille):
    ordered = sorted(values)
    return ordered[max(-(-len(ordered) * per_mille // 1000) - 1, 0)]


def files_of(directory):
    """All data files below a directory, in order."""
    found = []
    for root, _, names in os.walk(directory):
        found += [os.path.join(root, name) for name in names if name.endswith(".parquet")]
    if not found:
        raise RuntimeError("no Parquet file below " + directory)
    return sorted(found)


def closed_loop(work, millis):
    """Repeats `work` for `millis` after a warm-up; returns seconds of each run within the window."""
    warm_up = max(millis / 5, 20) / 1000
    begin = time.monotonic() + warm_up
    end = begin + millis / 1000
    latencies = []
    before = time.monotonic()
    while True:
        work()
        after = time.monotonic()
        if after > end:
            # At least one figure, from a library whose one commit takes longer than the window.
            return latencies or [after - before]
        if after >= begin:
            latencies.append(after - before)
        before = after
