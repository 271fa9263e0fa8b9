"""A Ray cluster of several raylets on this machine, and what the tests of it share."""

import csv
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import ray
from ray.cluster_utils import Cluster

from tests.files.object_store import object_store
from tests.tiny import FILLERS, SIGNS

STORE_BYTES = 80 << 20
WINDOW = 500
REJECTED_EVERY = 50


@contextmanager
def started_cluster() -> Iterator[Cluster]:
    """A head that runs no work and two nodes of one core, connected; an object store is at `AWS_ENDPOINT_URL`, which
    the nodes know because they were started with it."""
    with object_store() as endpoint, pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", endpoint)
        environment.setenv("AWS_ACCESS_KEY_ID", "nobody")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
        environment.setenv("OMP_NUM_THREADS", "1")
        cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE_BYTES},
        )
        try:
            for _ in range(2):
                add_node(cluster)
            ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


def add_node(cluster: Cluster) -> Any:
    """One more node of one core."""
    return cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)


def write_rows(path: Path, rows: int, words: int = 6, note: str = "") -> Path:
    """`rows` short rows by the ending of `path`; every 50th has no text, and many have quotes and line ends in it."""
    generator = random.Random(rows)
    vocabulary = [*FILLERS, *SIGNS["neg"], *SIGNS["pos"], "a\nline", 'a "quote"', "a, comma"]
    values = [
        (number, "" if number % REJECTED_EVERY == 7 else " ".join(generator.choices(vocabulary, k=words)), note)
        for number in range(rows)
    ]
    names = ("id", "text", "note")
    if path.suffix == ".parquet":
        table = pyarrow.table(dict(zip(names, map(list, zip(*values, strict=True)), strict=True)))
        pyarrow.parquet.write_table(table, path, row_group_size=WINDOW * 7 // 2)
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([names, *values])
    else:
        lines = (json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in values)
        path.write_text("".join(lines), encoding="utf-8")
    return path


def shards_done(output: Path) -> int:
    """How many shards the journal of an output names."""
    return len(list(Path(f"{output}.shards").glob("journal/[0-9]*.json")))


def wait_until(true: Callable[[], bool], seconds: float = 300) -> None:
    """Until something that can be observed is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)


def actor_pids(cluster: Cluster) -> list[int]:
    """The processes of the workers that score, on the nodes of this cluster."""
    raylets = {node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()}
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            title = (entry / "cmdline").read_bytes()
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended
        if b"_Worker" in title and parent in raylets:
            found.append(int(entry.name))
    return found


def with_our_code() -> dict[str, str]:
    """The environment of a process of its own that imports the package from here."""
    places = (str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", ""))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
