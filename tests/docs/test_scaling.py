"""The manifests for Kubernetes have KubeRay's fields and the options of `toolchain score`; the tables are computed."""

import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from typer.main import get_command

from tests.docs.pages import ROOT
from toolchain.cli.app import app

MANIFESTS = sorted((ROOT / "examples" / "kuberay").glob("*.yaml"))

Schema = dict[str, Any]


def record(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    """An object with these fields and no others: a misspelt one is an error, as `kubectl --validate=strict` has it."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def items(schema: Schema) -> Schema:
    return {"type": "array", "items": schema, "minItems": 1}


TEXT: Schema = {"type": "string", "minLength": 1}
COUNT: Schema = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
QUANTITIES: Schema = {
    "type": "object",
    "additionalProperties": {"type": "string", "pattern": r"^\d+(\.\d+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"},
}
POD = record(
    ("spec",),
    metadata=record(labels=TEXTS, annotations=TEXTS),
    spec=record(
        ("containers",),
        serviceAccountName=TEXT,
        nodeSelector=TEXTS,
        tolerations=items(
            record(
                key=TEXT,
                operator={"enum": ["Exists", "Equal"]},
                value=TEXT,
                effect={"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
            )
        ),
        containers=items(
            record(
                ("name", "image"),
                name={"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"},
                image=TEXT,
                resources=record(requests=QUANTITIES, limits=QUANTITIES),
            )
        ),
    ),
)
HEAD = {"rayStartParams": TEXTS, "template": POD}
WORKERS = {"groupName": TEXT, "replicas": COUNT, "minReplicas": COUNT, "maxReplicas": COUNT, **HEAD}
RAY_JOB = record(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=record(name=TEXT, generateName=TEXT, namespace=TEXT, labels=TEXTS, annotations=TEXTS),
    spec=record(
        ("entrypoint", "rayClusterSpec"),
        entrypoint=TEXT,
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        backoffLimit=COUNT,
        activeDeadlineSeconds=COUNT,
        shutdownAfterJobFinishes={"type": "boolean"},
        ttlSecondsAfterFinished=COUNT,
        suspend={"type": "boolean"},
        runtimeEnvYAML=TEXT,
        rayClusterSpec=record(
            ("headGroupSpec",),
            rayVersion=TEXT,
            headGroupSpec=record(tuple(HEAD), **HEAD),
            workerGroupSpecs=items(record(tuple(WORKERS), **WORKERS)),
        ),
    ),
)
"""The fields of KubeRay's API types that our manifests use (RayJobSpec, RayClusterSpec, HeadGroupSpec, WorkerGroupSpec)
and of a pod template. Written by hand, so stricter than the operator's own schema, and no proof that a cluster takes
them."""


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def options(manifest: Any) -> dict[str, Any]:
    """The parameters that `toolchain score` reads from the entry point."""
    program, command, *arguments = shlex.split(manifest["spec"]["entrypoint"])
    assert (program, command) == ("toolchain", "score")
    score = get_command(app).commands["score"]  # type: ignore[attr-defined]
    parameters: dict[str, Any] = score.make_context("score", arguments).params
    return parameters


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_has_the_fields_and_types_of_a_ray_job(path: Path) -> None:
    assert [error.message for error in Draft202012Validator(RAY_JOB).iter_errors(load(path))] == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("spec.entryPoint", "toolchain score"),
        ("spec.backoffLimit", "2"),
        ("spec.submissionMode", "Job"),
        ("spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus", 0),
        ("spec.rayClusterSpec.workerGroupSpecs.0.replicas", -1),
        ("spec.rayClusterSpec.workerGroupSpecs.0.template.spec.containers.0.resources.limits.memory", "24GiB"),
        ("spec.rayClusterSpec.workerGroupSpecs.0.template.spec.containers.0.resource", {}),
    ],
)
def test_a_mistake_in_a_manifest_is_found(field: str, value: object) -> None:
    manifest = load(MANIFESTS[0])
    *parents, name = field.split(".")
    target = manifest
    for parent in parents:
        target = target[int(parent) if parent.isdigit() else parent]
    target[name] = value
    assert len(list(Draft202012Validator(RAY_JOB).iter_errors(manifest))) == 1


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_asks_for_as_many_workers_as_its_pods_have_room_for(path: Path) -> None:
    manifest = load(path)
    asked = options(manifest)
    assert (asked["engine"], asked["address"]) == ("ray", "auto")
    (group,) = manifest["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    limits = container["resources"]["limits"]
    assert container["resources"]["requests"] == limits
    if gpus := asked["gpus_per_worker"]:
        room = int(limits["nvidia.com/gpu"]) / gpus
        assert int(limits["cpu"]) >= room
    else:
        room = int(limits["cpu"])
    assert asked["workers"] == group["replicas"] * room
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    assert manifest["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_the_image_the_manifests_and_the_tests_have_one_version_of_ray() -> None:
    image = (ROOT / "examples" / "kuberay" / "Dockerfile").read_text(encoding="utf-8")
    versions = {load(path)["spec"]["rayClusterSpec"]["rayVersion"] for path in MANIFESTS}
    assert versions == set(re.findall(r"^FROM rayproject/ray:([\d.]+)-", image, re.MULTILINE))
    assert versions == {version("ray")}


def test_the_tables_are_what_their_commands_print() -> None:
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    commands = re.findall(r"^python (benchmarks/sizing\.py .*)\n```\n\n((?:\|.*\n)+)", page, re.MULTILINE)
    assert len(commands) == 2
    for command, table in commands:
        run = [sys.executable, *command.split()]
        assert subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True).stdout == table
