"""What the driver makes of files that cannot be cut, without a cluster: each costs itself alone, and has an entry."""

import os
from pathlib import Path

import pytest

from export.bundle import open_bundle
from toolchain.files.kind import Kind
from toolchain.scoring.ray.ledger import Ledger
from toolchain.scoring.ray.shards import File, Job, Planned, plan_windows
from toolchain.scoring.windows import Options

BAD = {
    "empty.csv": b"",
    "numbers.csv": b"id,stars\n1,5\n",
    "broken.csv.gz": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03KLJN",
}


@pytest.mark.parametrize("named", ["as given", "absolute"])
@pytest.mark.parametrize("name", BAD)
def test_a_file_that_cannot_be_read_has_an_outcome_with_its_error(
    name: str, named: str, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(BAD[name])
    bundle = open_bundle(tiny_bundle)
    labels = bundle.specification.labels
    job = Job("run", bundle.identity, labels, str(tiny_bundle), "cpu", None, "fp32", Options(), True, (16, 1 << 20))
    folder = "" if named == "as given" else f"{tmp_path}/"
    source, output = folder + name, Kind.of(f"{folder}out-{name}")
    file = File(0, source, output, os.path.abspath(source), Kind.of(os.path.abspath(output.name)))
    ledger = Ledger(file, job, bundle)
    for answer in plan_windows(job, file):
        assert isinstance(answer, Planned)
        ledger.add(answer)
    outcome = ledger.conclude() if ledger.complete else ledger.give_up()
    ledger.close()
    assert outcome.source == source
    assert (outcome.summary.output, outcome.summary.scored) == (None, 0)
    assert outcome.summary.error == str(outcome.error)
    assert source in str(outcome.error)
    assert named == "absolute" or str(tmp_path) not in str(outcome.error)
