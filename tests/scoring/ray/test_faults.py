"""Killed actors, nodes and drivers, and inputs that turn bad: no row is lost or doubled, the rest is scored."""

import gzip
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster as RayCluster

import toolchain.scoring.job
from tests.scoring.ray.ray_cluster import (
    WINDOW,
    actor_pids,
    add_node,
    shards_done,
    wait_until,
    with_our_code,
    write_rows,
)
from tests.scoring.ray.test_engine import locally, on_ray, rejects
from toolchain.errors import UsageError
from toolchain.scoring.job import Options

ROWS = 20_000
JOB = """
import sys, toolchain.scoring.job
from toolchain.cli.app import app
toolchain.scoring.job.WINDOW_ROWS = int(sys.argv[1])
app(["score", *sys.argv[2:]], prog_name="toolchain")
"""


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain.scoring.job, "WINDOW_ROWS", WINDOW)


@pytest.fixture(scope="module")
def undisturbed(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `in.csv`, and with `out.csv` and its rejects from the local engine."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toolchain.scoring.job, "WINDOW_ROWS", WINDOW)
        locally(tiny_bundle, write_rows(folder / "in.csv", ROWS), folder / "out.csv", Options())
    return folder


def after_shards(output: Path, count: int, strike: Callable[[], None]) -> threading.Thread:
    """`strike` as soon as so many shards are there."""

    def wait_and_strike() -> None:
        wait_until(lambda: shards_done(output) >= count)
        strike()

    thread = threading.Thread(target=wait_and_strike)
    thread.start()
    return thread


def assert_exact(output: Path, undisturbed: Path) -> None:
    assert output.read_bytes() == (undisturbed / "out.csv").read_bytes()
    assert rejects(output).read_bytes() == rejects(undisturbed / "out.csv").read_bytes()


def test_a_killed_actor_costs_no_row(cluster: RayCluster, tiny_bundle: Path, undisturbed: Path, tmp_path: Path) -> None:
    killed: list[int] = []

    def strike() -> None:
        killed.append(actor_pids(cluster)[0])
        os.kill(killed[0], signal.SIGKILL)

    source, output = undisturbed / "in.csv", tmp_path / "out.csv"
    thread = after_shards(output, 3, strike)
    summary = on_ray(tiny_bundle, [(source, output)], Options())[str(source)].completed()
    thread.join()
    assert killed
    assert (summary.rows, summary.resumed) == (ROWS, 0)
    assert_exact(output, undisturbed)


def test_a_killed_node_costs_no_row(cluster: RayCluster, tiny_bundle: Path, undisturbed: Path, tmp_path: Path) -> None:
    node = add_node(cluster)
    lost: list[bool] = []
    source, output = undisturbed / "in.csv", tmp_path / "out.csv"
    thread = after_shards(output, 3, lambda: lost.append(cluster.remove_node(node, allow_graceful=False)))
    summary = on_ray(tiny_bundle, [(source, output)], Options(), workers=3)[str(source)].completed()
    thread.join()
    assert lost
    assert summary.rows == ROWS
    assert_exact(output, undisturbed)


def test_a_killed_driver_is_resumed_by_shard(
    cluster: RayCluster, tiny_bundle: Path, undisturbed: Path, tmp_path: Path
) -> None:
    source, output = undisturbed / "in.csv", tmp_path / "out.csv"
    arguments = [source, "-o", output, "--bundle", tiny_bundle, "--engine", "ray", "--merge", "--workers", "2"]
    driver = subprocess.Popen(
        [sys.executable, "-c", JOB, str(WINDOW), *map(str, arguments), "--address", cluster.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=with_our_code(),
    )
    wait_until(lambda: shards_done(output) >= 5 or driver.poll() is not None)
    driver.kill()
    _, messages = driver.communicate()
    assert driver.returncode == -signal.SIGKILL, messages
    assert not output.exists()

    damaged = next(iter(sorted(Path(f"{output}.shards/rows").glob("*"))))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    summary = on_ray(tiny_bundle, [(source, output)], Options())[str(source)].completed()
    assert 0 < summary.resumed < ROWS
    assert summary.rows == ROWS
    assert_exact(output, undisturbed)


def test_files_that_turn_bad_cost_themselves_alone(
    cluster: RayCluster, tiny_bundle: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """One packed with a damaged end, one cut off while it is scored, one that is not there; and a good one."""
    good, packed, cut, gone = (tmp_path / name for name in ("good.csv", "packed.csv.gz", "cut.csv", "gone.csv"))
    good.write_bytes((undisturbed / "in.csv").read_bytes())
    packed.write_bytes(gzip.compress(good.read_bytes(), mtime=0)[:-5000])
    write_rows(cut, ROWS, note="n" * 500)
    folder = tmp_path / "out"
    files = [(source, folder / source.name) for source in (cut, packed, good, gone)]
    thread = after_shards(folder / "cut.csv", 2, lambda: os.truncate(cut, cut.stat().st_size // 2))
    outcomes = on_ray(tiny_bundle, files, Options())
    thread.join()
    assert outcomes[str(good)].completed().rows == ROWS
    assert (folder / "good.csv").read_bytes() == (undisturbed / "out.csv").read_bytes()
    for source, reason in (
        (packed, "the compressed data is damaged or cut off .* are scored and kept"),
        (cut, "(became shorter|has changed)"),
        (gone, "No such file"),
    ):
        with pytest.raises(UsageError, match=rf"^{source}: {reason}"):
            outcomes[str(source)].completed()
        assert not (folder / source.name).exists()
