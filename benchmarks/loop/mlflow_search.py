"""Runs in MLflow's environment: for each line on standard input the seconds of three searches of N runs, as a JSON line."""

import json
import random
import sqlite3
import sys
import time

import mlflow
from mlflow.tracking import MlflowClient


def fill(path: str, n_runs: int) -> str:
    """Rows as MLflow writes them; through its client they would take minutes."""
    mlflow.set_tracking_uri(f"sqlite:///{path}")
    client = MlflowClient()
    experiment = client.create_experiment("benchmark")
    template = client.create_run(experiment)
    client.log_metric(template.info.run_id, "auc", 0.5)
    client.log_param(template.info.run_id, "units", "32")
    client.set_tag(template.info.run_id, "stage", "train")
    client.set_terminated(template.info.run_id)
    database = sqlite3.connect(path)
    for number in range(n_runs - 1):
        new = f"{number:032x}"
        for table in ("runs", "metrics", "latest_metrics", "params", "tags"):
            key = "run_uuid"
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            changes = {key: new}
            if table == "runs":
                changes["start_time"] = 1_700_000_000_000 + number
            if table in ("metrics", "latest_metrics"):
                changes["value"] = random.Random(number).random()
            if table == "params":
                changes["value"] = str(2 ** (number % 8))
            chosen = ", ".join("?" if column in changes else column for column in columns)
            values = [changes[column] for column in columns if column in changes]
            database.execute(
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {chosen} FROM {table} WHERE {key} = ?",
                [*values, template.info.run_id],
            )
    database.commit()
    database.close()
    return experiment


def main() -> None:
    """Fill the store, then time each search when asked."""
    path, n_runs = sys.argv[1], int(sys.argv[2])
    experiment = fill(path, n_runs)
    client = MlflowClient()
    searches = {
        "latest 50": {"order_by": ["attributes.start_time DESC"]},
        "filter": {"filter_string": "metrics.auc >= 0.9 and params.units = '64'"},
        "best by metric": {"order_by": ["metrics.auc DESC"]},
    }
    for search in searches.values():
        client.search_runs([experiment], max_results=50, **search)
    print("ready", flush=True)
    for _ in sys.stdin:
        found = {}
        for name, search in searches.items():
            begin = time.perf_counter()
            n_found = len(client.search_runs([experiment], max_results=50, **search))
            found[name] = time.perf_counter() - begin
            assert n_found == 50, (name, n_found)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
