"""Small files as awful as people's are, each with the right answer beside it in `awful/answers.json`.

An answer has the `rows` of a file, the `texts` that are scored, the `rejected` ones (line and reason) and what was
`found` out; or the `message` that refuses it. `broken` is how a file ends whose rows before that are good, `options`
are those of `ReadOptions`, and `needs` is a package.
"""

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from toolchain.errors import UsageError
from toolchain.files.kind import Kind
from toolchain.scoring.job import found
from toolchain.scoring.windows import Options, Plan, UntilBroken, open_records

FOLDER = Path(__file__).parent / "awful"
ANSWERS: dict[str, dict[str, Any]] = json.loads((FOLDER / "answers.json").read_text(encoding="utf-8"))


def test_every_file_has_its_answer() -> None:
    assert sorted(ANSWERS) == sorted(path.name for path in FOLDER.iterdir() if path.name != "answers.json")


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_an_awful_file_gives_the_right_rows(name: str) -> None:
    answer = ANSWERS[name]
    if "needs" in answer:
        pytest.importorskip(answer["needs"])
    options = Options(**answer.get("options", {}))
    with ExitStack() as stack:
        if "message" in answer:
            with pytest.raises(UsageError) as refused:
                Plan.of(open_records(str(FOLDER / name), Kind.of("-"), options, stack).reader, (), options)
            assert answer["message"] in str(refused.value)
            assert "\n" not in str(refused.value)
            return
        table = open_records(str(FOLDER / name), Kind.of("-"), options, stack)
        plan = Plan.of(table.reader, (), options)
        records = UntilBroken(table.reader)
        judged = [(record, plan.reason(record)) for record in records]
    assert [plan.text(record.fields) for record, reason in judged if reason is None] == answer["texts"]
    rejected = [(record.line, reason) for record, reason in judged if reason is not None]
    assert [line for line, _ in rejected] == [line for line, _ in answer.get("rejected", [])]
    for (_, reason), (_, wanted) in zip(rejected, answer.get("rejected", []), strict=True):
        assert wanted in reason
    assert len(judged) == answer["rows"]
    assert set(answer.get("found", ())) <= set(found(table, plan))
    assert answer.get("broken", "") in str(records.error or "")
    assert (records.error is None) == ("broken" not in answer)


@pytest.mark.parametrize("name", ["gzip.csv", "one.zip", "one.tar", "array.json", "stray-quotes.csv", "titles.csv"])
def test_a_pipe_is_found_out_as_a_file_is(name: str) -> None:
    count = (
        "import contextlib\nfrom toolchain.files.tables import *\nwith contextlib.ExitStack() as stack:\n"
        "    table = open_table('-', ReadOptions(), stack)\n    print([table.found, len(list(table.reader))])"
    )
    data = (FOLDER / name).read_bytes()
    ended = subprocess.run(
        [sys.executable, "-c", count], input=data, capture_output=True, check=True, cwd=FOLDER.parents[2]
    )
    with ExitStack() as stack:
        table = open_records(str(FOLDER / name), Kind.of("-"), Options(), stack)
        assert ended.stdout.decode() == f"{[table.found, len(list(table.reader))]}\n"
