"""Scoring on a cluster of several raylets: what comes out is what the local engine writes, byte for byte."""

import json
import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.fs
import pyarrow.parquet
import pytest
import ray
from ray.cluster_utils import Cluster as RayCluster

import toolchain.scoring.job
import toolchain.scoring.ray.shards
from export.bundle import open_bundle
from tests.files.object_store import BROKEN
from tests.scoring.ray.ray_cluster import REJECTED_EVERY, WINDOW, write_rows
from toolchain.errors import CheckFailed, UsageError
from toolchain.files.kind import Kind
from toolchain.files.storage import files_in, read_bytes, upload
from toolchain.scoring.batch import Outcome
from toolchain.scoring.job import Options, Summary, score_file
from toolchain.scoring.provenance import Provenance, read_provenance
from toolchain.scoring.ray.cutting import read_spans
from toolchain.scoring.ray.engine import Cluster, Model, connected, score_files
from toolchain.scoring.ray.shards import File, Job, Planned, plan_windows
from toolchain.scoring.scorer import Scorer

ROWS = 20_000
SUFFIXES = (".csv", ".jsonl", ".parquet")


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain.scoring.job, "WINDOW_ROWS", WINDOW)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")  # the time in a record is all in which two runs differ


def on_ray(
    bundle: Path, files: list[tuple[Any, Any]], options: Options, merge: bool = True, workers: int = 2
) -> dict[str, Outcome]:
    """The outcomes by input."""
    named = [(str(source), str(output)) for source, output in files]
    outcomes = score_files(named, Model(bundle), options, Cluster(workers=workers), merge)
    return {outcome.source: outcome for outcome in outcomes}


def locally(bundle: Path, source: Path, output: Path, options: Options) -> Summary:
    with Scorer(bundle, "cpu") as scorer:
        return score_file(scorer, str(source), str(output), options)


def rejects(output: Path) -> Path:
    return output.with_name(output.name + ".rejected.jsonl")


def same_figures(one: Summary, other: Summary) -> None:
    """All but the time and the places."""
    names = ("rows", "scored", "rejected", "tokens", "unknown", "labels", "abstained", "label_metrics", "drift")
    assert {name: getattr(one, name) for name in names} == {name: getattr(other, name) for name in names}


def test_a_large_file_that_several_tasks_cut_has_the_same_windows(
    cluster: RayCluster, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolchain.scoring.ray.shards, "SPAN", 20_000)
    source = write_rows(tmp_path / "in.csv", 2000)
    with source.open("ab") as rows:
        rows.write(b'1,"one\nreview, and no more",\n' * 500 + b'2,"open,\n' + b"3,fine,\n" * 500)
    bundle = open_bundle(tiny_bundle)
    labels = bundle.specification.labels
    job = Job("run", bundle.identity, labels, str(tiny_bundle), "cpu", None, "fp32", Options(), True, (16, 1 << 20))
    target = Kind.of(str(tmp_path / "out.csv"))
    file = File(0, str(source), target, str(source), target)
    with connected(None):
        *windows, last = plan_windows(job, file, partial(read_spans, job, 2))
    *expected, end = plan_windows(job, file)
    assert windows == expected
    assert isinstance(last, Planned)
    assert isinstance(end, Planned)
    assert replace(last, seconds=0) == replace(end, seconds=0)
    source.unlink()
    parts = read_spans(job, 2, file, [(0, 10), (10, 20)], 20)
    with connected(None), pytest.raises(UsageError, match=r"in\.csv: No such file"):
        list(parts)


def test_three_formats_at_once_are_those_of_the_local_engine(
    cluster: RayCluster, tiny_bundle: Path, tmp_path: Path
) -> None:
    sources = [write_rows(tmp_path / f"in{suffix}", ROWS) for suffix in SUFFIXES]
    outcomes = on_ray(tiny_bundle, [(source, tmp_path / f"ray{source.suffix}") for source in sources], Options())
    for source in sources:
        local, merged = tmp_path / f"local{source.suffix}", tmp_path / f"ray{source.suffix}"
        expected = locally(tiny_bundle, source, local, Options())
        summary = outcomes[str(source)].completed()
        assert expected.rejected == ROWS // REJECTED_EVERY
        same_figures(summary, expected)
        assert (summary.output, summary.rejects) == (str(merged), str(rejects(merged)))
        assert merged.read_bytes() == local.read_bytes()
        assert rejects(merged).read_bytes() == rejects(local).read_bytes()
        assert read_provenance(str(merged)) == read_provenance(str(local)) == summary.made_by
        assert not Path(f"{merged}.shards").exists()


def test_without_a_merge_shards_are_files_and_the_manifest_adds_up(
    cluster: RayCluster, tiny_bundle: Path, tmp_path: Path
) -> None:
    sources = [write_rows(tmp_path / f"in{suffix}", 1800) for suffix in SUFFIXES]
    options = Options(label_column="note", min_confidence=0.6, probabilities=True)
    files = [(source, tmp_path / f"out{source.suffix}") for source in sources]
    outcomes = on_ray(tiny_bundle, files, options, merge=False)
    for source, output in files:
        folder = Path(f"{output}.shards")
        expected = locally(tiny_bundle, source, output, options)
        summary = outcomes[str(source)].completed()
        same_figures(summary, expected)
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        assert Provenance.from_json(manifest["summary"]["made_by"]) == summary.made_by
        assert manifest["summary"]["made_by"]["bundle"] == open_bundle(tiny_bundle).identity
        shards = manifest["shards"]
        assert [shard["window"] for shard in shards] == [0, 1, 2, 3]
        assert sum(shard["scored"] for shard in shards) == manifest["summary"]["scored"] == expected.scored
        assert sum(shard["rejected"] for shard in shards) == expected.rejected
        assert [shard["rows"] for shard in shards] == sorted(path.name for path in (folder / "rows").iterdir())
        parts = [folder / "rows" / shard["rows"] for shard in shards]
        if source.suffix == ".parquet":
            table = pyarrow.concat_tables([pyarrow.parquet.read_table(part) for part in parts])
            assert table == pyarrow.parquet.read_table(output)
        elif source.suffix == ".csv":
            header, *_ = output.read_bytes().splitlines(keepends=True)
            assert all(part.read_bytes().startswith(header) for part in parts)
            assert header + b"".join(part.read_bytes()[len(header) :] for part in parts) == output.read_bytes()
        else:
            assert b"".join(part.read_bytes() for part in parts) == output.read_bytes()
        lines = b"".join(path.read_bytes() for path in sorted((folder / "rejects").iterdir()))
        assert lines == rejects(output).read_bytes()

    again = on_ray(tiny_bundle, files, options, merge=False)
    assert [outcome.completed().resumed for outcome in again.values()] == [1800] * 3


def test_objects_in_and_out_and_one_that_fails_midway(cluster: RayCluster, tiny_bundle: Path, tmp_path: Path) -> None:
    bucket = f"bucket-{tmp_path.name.replace('_', '-')}"[:60].rstrip("-")
    store = pyarrow.fs.S3FileSystem(
        endpoint_override=os.environ["AWS_ENDPOINT_URL"], region="us-east-1", allow_bucket_creation=True
    )
    store.create_dir(bucket)
    good, bad = write_rows(tmp_path / "good.csv", 2000), write_rows(tmp_path / f"{BROKEN}.csv", 9000, note="n" * 600)
    expected = locally(tiny_bundle, good, tmp_path / "local.csv", Options())
    inside = {path.name: f"s3://{bucket}/in/{path.name}" for path in (good, bad)}
    for path in (good, bad):
        upload(path, inside[path.name])
    files = [(name, name.replace("/in/", "/out/")) for name in inside.values()]
    outcomes = on_ray(tiny_bundle, files, Options())
    summary = outcomes[inside["good.csv"]].completed()
    same_figures(summary, expected)
    assert read_bytes(f"s3://{bucket}/out/good.csv") == (tmp_path / "local.csv").read_bytes()
    rejected = (read_bytes(f"s3://{bucket}/out/good.csv.rejected.jsonl") or b"").decode()
    assert rejected == rejects(tmp_path / "local.csv").read_text(encoding="utf-8").replace(
        str(good), inside["good.csv"]
    )
    with pytest.raises(UsageError, match=rf"^{inside[bad.name]}: cannot be read to its end .* to line"):
        outcomes[inside[bad.name]].completed()
    assert not any(name.endswith("/broken.csv") for name in files_in(f"s3://{bucket}/out"))


def test_a_row_that_cannot_be_scored_stops_its_file_where_that_was_asked_for(
    cluster: RayCluster, tiny_bundle: Path, tmp_path: Path
) -> None:
    source = write_rows(tmp_path / "in.jsonl", 1800)
    with pytest.raises(CheckFailed, match=rf"^{source}:8: no text.*nothing was written"):
        on_ray(tiny_bundle, [(source, tmp_path / "out.jsonl")], Options(on_error="fail"))[str(source)].completed()
    assert not Path(f"{tmp_path / 'out.jsonl'}.shards").exists()


def test_a_job_with_other_options_does_not_take_over_shards(
    cluster: RayCluster, tiny_bundle: Path, tmp_path: Path
) -> None:
    source, output = write_rows(tmp_path / "in.csv", 600), tmp_path / "out.csv"
    on_ray(tiny_bundle, [(source, output)], Options(), merge=False)[str(source)].completed()
    other = Options(probabilities=True)
    with pytest.raises(UsageError, match=r"out\.csv\.shards: holds an unfinished run with another --probabilities"):
        on_ray(tiny_bundle, [(source, output)], other, merge=False)[str(source)].completed()
    anew = Options(probabilities=True, resume=False)
    assert on_ray(tiny_bundle, [(source, output)], anew, merge=False)[str(source)].completed().resumed == 0


@pytest.mark.parametrize(
    ("provider", "gpus", "message"),
    [
        ("cuda", 0, "--provider cuda: workers get no GPU; add --gpus-per-worker 1"),
        ("cpu", 1, "--provider cpu with --gpus-per-worker"),
        ("auto", 1, "no room for a worker"),
    ],
)
def test_no_worker_falls_back_to_the_cpu(
    provider: str, gpus: float, message: str, cluster: RayCluster, tiny_bundle: Path, tmp_path: Path
) -> None:
    files = [(str(write_rows(tmp_path / "in.csv", 10)), str(tmp_path / "out.csv"))]
    with pytest.raises(UsageError, match=message):
        list(score_files(files, Model(tiny_bundle, provider), Options(), Cluster(gpus_per_worker=gpus)))


def test_a_damaged_bundle_is_refused(cluster: RayCluster, tiny_bundle: Path, tmp_path: Path) -> None:
    """By the worker that gets it, in one line, with the bundle's own name."""
    damaged = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, damaged)
    name = next(name for name in open_bundle(damaged).files if name.endswith(".onnx"))
    (damaged / name).write_bytes((damaged / name).read_bytes()[:-1] + b"?")
    source = write_rows(tmp_path / "in.csv", 10)
    with pytest.raises(UsageError, match=rf"^{damaged}/{name}: its SHA-256 is not the one in the manifest"):
        on_ray(damaged, [(source, tmp_path / "out.csv")], Options())
    assert ray.is_initialized()
