"""Runs in kit's environment: for each line on standard input the seconds of three searches of an archive, as a JSON line."""

import json
import sys
import time
from pathlib import Path

from kit.archive import Archive, read_origin
from kit.index import Query, parse_condition


def main() -> None:
    """Build the index, then time each search when asked."""
    folder, index = Path(sys.argv[1]), Path(sys.argv[2])
    archive = Archive(folder, read_origin(folder), index=index)
    conditions = (parse_condition("auc>=0.9"), parse_condition("units=64"))
    searches = {
        "latest 50": Query(limit=50),
        "filter": Query(where=conditions, limit=50),
        "best by metric": Query(sort="auc", limit=50),
    }
    for query in searches.values():
        archive.search(query)
    print("ready", flush=True)
    for _ in sys.stdin:
        found = {}
        for name, query in searches.items():
            begin = time.perf_counter()
            n_found = len(archive.search(query).rows)
            found[name] = time.perf_counter() - begin
            assert n_found == 50, (name, n_found)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
