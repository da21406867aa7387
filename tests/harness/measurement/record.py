"""The record of a run: one JSON file of plain data. The records of the parts of a run can be added."""

import json
import os
import platform
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import asdict
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..judgement.left_out import COMPARED
from ..judgement.verdict import NOT_APPLICABLE
from ..ledgers import BY_ID
from ..modes import pairs
from ..modes.inductor import can_build
from ..modes.mode import can_quantize
from ..modes.onnx import PACKAGES
from ..modes.vectors import extension
from . import session

SCHEMA = 3

# Environment variables that the suite, torch or Hypothesis reads; shown in the header.
ENVIRONMENT = ("ATEN_CPU_CAPABILITY", "CI", "CUDA_VISIBLE_DEVICES", "HYPOTHESIS_PROFILE", "OMP_NUM_THREADS")

PASSED, FAILED, HARNESS_ERROR, CRASH = "passed", "failed", "harness error", "crash"
NOT_EXERCISED = "not exercised"

LEAST_SHARE_OF_A_PATH = 0.01  # of the cases of a module
# Shares of fewer cases are not judged, as chance decides them: only about a third of the cases are independent.
_CASES_TO_JUDGE_SHARES_BY = 2000


def environment(run: session.Session, profile: str, seed: str) -> dict[str, Any]:
    """The versions, the hardware and the settings of the run. profile, seed: of Hypothesis."""
    return {
        "torch": torch.__version__,
        "git": torch.version.git_version,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": run.device,
        **_accelerator(run.release.device_type, run.device),
        **({"import": run.imported} if run.imported else {}),
        "cpu": extension(),
        "threads": torch.get_num_threads(),
        "compiler": can_build(),
        "quantizes": can_quantize(),
        **({"not_shared": pairs.obstacle()} if pairs.obstacle() else {}),
        **_versions(PACKAGES),
        "profile": profile,
        "seed": seed,
        **({"model": run.model} if run.model else {}),
        **({"subject": run.adopted.name} if run.adopted else {}),
        **({"subject_ledger": run.adopted.ledger.__name__} if run.adopted and run.adopted.ledger else {}),
        "ledger": len(run.entries) + len(run.wrong_masks),
        "variables": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
    }


def _versions(packages):
    """{"packages": {name: version}} of the installed ones among the packages that some modes need; empty if none is."""
    installed = {name: metadata.version(name) for name in packages if find_spec(name)}
    return {"packages": installed} if installed else {}


def _accelerator(device_type, device):
    """The name of the device, and on CUDA the version of cuDNN; empty if the device has no name."""
    try:
        described = {"accelerator": getattr(torch, device_type).get_device_name(device)}
    except Exception:  # a backend without this function may raise any type
        return {}
    return described | ({"cudnn": torch.backends.cudnn.version()} if device_type == "cuda" else {})


def assemble(
    run: session.Session,
    environment: Mapping[str, Any],
    tests: Mapping[str, Mapping[str, Any]],
    complete: bool,
    seconds: float,
) -> dict[str, Any]:
    """The record of a run.

    environment: see `environment`. tests: {test id: {"outcome", "seconds", "tally" (Tally.as_dict), "failures",
    "message", and "entry" or "way" (see _property)}}. complete: False if the run was interrupted. seconds: wall time.
    """
    counted = ("statuses", "deviations", "modules", "cases", "paths", "margins", "left_out", "uncomputed", "clauses")
    total: dict[str, Counter[str]] = {name: Counter() for name in counted}
    for test in tests.values():
        for name, counter in total.items():
            counter.update(test["tally"].get(name, {}))
    return {
        "schema": SCHEMA,
        "complete": complete,
        "seconds": round(seconds, 1),
        "cpu_seconds": _total(tests, "seconds"),
        "cpu_seconds_in_torch": _total(tests, "seconds_in_torch"),
        "environment": environment,
        "outcomes": _sorted(Counter(test["outcome"] for test in tests.values())),
        "statuses": _sorted(total["statuses"]),
        "clauses": _by_clause(total["clauses"]),
        "ledger": {
            id: _entry(finding, total["deviations"][id], _modules(id, total["modules"]))
            for id, finding in sorted(_findings(run, tests.values()).items())
        },
        "paths": _by_module(total["paths"], total["cases"]),
        "ratios": _largest_ratios(tests.values()),
        "margins": _sorted(total["margins"]),
        "uncomputed": _sorted(total["uncomputed"]),
        **_compared(total["left_out"]),
        "tests": {id: _property(test) for id, test in sorted(tests.items())},
    }


def _by_clause(counter):
    """{number of a clause: {"calls": number of calls that exercise it, status: number of these calls}}"""
    clauses = {}
    for key, number in sorted(counter.items()):
        clause, _, verdict = key.partition(" ")
        counts = clauses.setdefault(clause, {"calls": 0})
        counts["calls"] += number
        counts[verdict] = number
    return clauses


def _compared(counter):
    """{"compared": {unit: number}, "left_out": {reason: {unit: number}}}, see left_out.py."""
    by_reason = {}
    for key, number in sorted(counter.items()):
        reason, unit = key.split(": ")
        by_reason.setdefault(reason, {})[unit] = number
    return {"compared": by_reason.pop(COMPARED, {}), "left_out": by_reason}


def _property(test):
    """The data of one test in the record. Its paths and ratios are only recorded by module.

    entry: the id of the entry of a ledger that the test is about. way: "eager", or the mode or low precision that the
    test is about; absent if there is an entry. failures: plain data (Failure.as_plain). message: text of the failures.
    """
    tally = {name: _sorted(test["tally"][name]) for name in ("statuses", "deviations") if name in test["tally"]}
    seconds = {"seconds": test["tally"]["seconds"]} if "seconds" in test["tally"] else {}
    others = {name: test[name] for name in ("entry", "way", "failures", "message") if test.get(name)}
    clauses = {clause: its["calls"] for clause, its in _by_clause(test["tally"].get("clauses", {})).items()}
    return {"outcome": test["outcome"], "clauses": clauses, **tally, **seconds, **others}


def _sorted(counter):
    """A dict sorted by key: Counters are in the order of the draws."""
    return dict(sorted(counter.items()))


def _total(tests, name):
    return round(sum(test["tally"].get(name, 0) for test in tests.values()), 1)


def _findings(run, tests):
    """{id of an entry: finding as a dict}"""
    findings = {id: asdict(finding) for id, finding in run.findings.items()}
    for test in tests:
        findings |= test["tally"].get("findings", {})
    return findings


def _entry(finding, cases, modules):
    if finding["status"] == session.PRESENT and finding["expected"] and not cases:
        finding = finding | {"status": NOT_EXERCISED}
    return finding | {"cases": cases, "modules": modules}


def _modules(id, counter):
    """{module: number of its calls that show the entry of this id}"""
    return {key.split(" ")[1]: number for key, number in sorted(counter.items()) if key.split(" ")[0] == id}


def _by_module(paths, cases):
    """{module: {"cases": number of cases, path: number of cases that it served}}"""
    modules = {module: {"cases": number} for module, number in sorted(cases.items())}
    for key, number in sorted(paths.items()):
        module, path = key.split(" ")
        modules[module][path] = number
    return modules


def _largest_ratios(tests):
    largest = {}
    for test in tests:
        for key, ratio in test["tally"].get("ratios", {}).items():
            largest[key] = max(ratio, largest.get(key, 0.0))
    return {key: round(ratio, 4) for key, ratio in sorted(largest.items())}


def neglected_paths(record: Mapping[str, Any], reachable: Mapping[str, Set[str]]) -> list[str]:
    """The reachable paths that served too few cases of a module, each as "module path": an error of the suite.

    reachable: {module: paths} (paths.reachable_paths).
    """
    if any(limit.startswith("--clause ") for limit in record.get("part", ())):
        reachable = {}  # calls that exercise one clause need not take each path
    neglected = ["all: the subject declines every call"] if set(record["statuses"]) == {NOT_APPLICABLE} else []
    for module, paths in sorted(reachable.items()):
        seen = record["paths"].get(module, {"cases": 0})
        if seen["cases"] >= _CASES_TO_JUDGE_SHARES_BY:
            least = LEAST_SHARE_OF_A_PATH * seen["cases"]
            neglected += [f"{module} {path}" for path in sorted(paths) if seen.get(path, 0) < least]
    return neglected


def write(record: Mapping[str, Any], path: str | Path) -> None:
    """Write the record as JSON. The file is replaced at once, so that it is never incomplete."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps(record, indent=1) + "\n")
    temporary.replace(path)


def depends_on_cpu(id: str) -> bool:
    """True if only some CPUs show the deviation of the entry with this id."""
    return id in BY_ID and not BY_ID[id].every_cpu
