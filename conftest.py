"""Options, profiles of Hypothesis, and usage errors. The other hooks are in tests/plugin.py, which imports torch."""

import gc
import importlib
import json
import math
import os
import random
import re
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import InvalidArgument
from packaging.version import InvalidVersion, Version

from tests.harness.releases import NEWEST, OLDEST, is_modelled
from tests.harness.strategies.provider import INDEPENDENT

_STARTED = time.monotonic()  # before torch is imported and the pinned cases run, both of which take seconds

# Tensors are small and workers share the CPU cores, so more threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# torch allocates many objects that live as long as the process. Collecting the old generations less often saves 6 % of
# the time of a run.
gc.set_threshold(700, 10, 100)

_CONFORMANCE = Path(__file__).parent / "tests" / "conformance"

# On a slow machine tests may be slow, so the health check for slowness is off.
_COMMON = {
    "backend": INDEPENDENT,
    "deadline": None,
    "database": None,
    "print_blob": False,
    "report_multiple_bugs": False,
    "phases": (Phase.explicit, Phase.generate, Phase.shrink),
    "suppress_health_check": [HealthCheck.too_slow],
}
for _name, _examples in {"quick": 50, "default": 200, "long": 600, "thorough": 5000}.items():
    settings.register_profile(_name, max_examples=_examples, **_COMMON)
settings.register_profile("ci", settings.get_profile("default"))
settings.load_profile("default")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the suite."""
    group = parser.getgroup("attention masks")
    group.addoption("--device", default="cpu", help="device string of torch (default: cpu)")
    group.addoption("--import", dest="imported", metavar="MODULE", help="import this module first, such as a backend")
    group.addoption("--report", metavar="PATH", help="path of the record (default: reports/<torch>-<device>.json)")
    group.addoption(
        "--baseline",
        metavar="PATH",
        help="fail only if a result is worse than in this record, whose calls are made again",
    )
    group.addoption(
        "--shard", metavar="I/N", help="run the I-th of N parts; `python -m tests.tools merge` merges their records"
    )
    group.addoption(
        "--subject",
        metavar="[NAME=]MODULE:FACTORY",
        help="measure this in the place of NAME: MultiheadAttention (default), TransformerEncoderLayer or"
        " scaled_dot_product_attention",
    )
    group.addoption(
        "--patience",
        metavar="SECONDS",
        type=float,
        help="end each test with its first failure, as -x does; after failed tests have taken this long, failures of"
        " compiled calls are no longer shrunk",
    )
    group.addoption(
        "--budget",
        metavar="SECONDS",
        type=float,
        default=120.0,
        help="time after the tests to explain the groups of failures and search their minimal cases (default: 120)",
    )
    group.addoption(
        "--clause",
        metavar="N",
        action="append",
        help="make only calls that exercise this clause of reference/README.md; may be repeated",
    )
    group.addoption("--no-issues", action="store_true", help="write no scripts and issues for failures")
    group.addoption("--model", metavar="VERSION", help="judge by the ledger of this release, not of the installed one")
    group.addoption(
        "--no-ledger",
        action="store_true",
        help="judge by the specification alone; --strict fails when a known deviation is absent",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Check the options and register the hooks of tests/plugin.py, if conformance tests are selected.

    Raises pytest.UsageError for invalid options.
    """
    if not _measures(config):
        return
    if config.getoption("no_ledger") and config.getini("strict"):
        raise pytest.UsageError("--no-ledger and --strict contradict each other: without a ledger nothing is absent")
    if config.getoption("no_ledger") and config.getoption("model"):
        raise pytest.UsageError("--no-ledger and --model contradict each other: a model is the ledger of a release")
    if not 0 < config.getoption("budget") < math.inf:
        raise pytest.UsageError(f"--budget {config.getoption('budget'):g}: not a number of seconds above 0")
    _check_profile(config.getoption("hypothesis_profile", None))
    torch = _import_torch()
    _import_backend(config.getoption("imported"))
    device = config.getoption("device")
    try:
        torch.zeros(1, device=device).cpu()  # the meta device makes tensors without content
    except Exception as error:  # torch raises many types here
        raise pytest.UsageError(f"--device {device}: torch cannot use it: {str(error).splitlines()[0][:160]}") from None
    if not config.getoption("hypothesis_seed"):
        config.option.hypothesis_seed = _seed_of(config.getoption("baseline"))
    part, shard, model = _part(config), _shard(config.getoption("shard")), _model(config.getoption("model"))
    _prepare_paths(config, torch, part)

    from tests import plugin  # which needs torch

    plugin.register(config, _CONFORMANCE, part, shard, model, _STARTED)


def _measures(config):
    """True if conformance tests are selected; the other tests check the suite itself."""
    return any(_has_all(place) or _CONFORMANCE in place.parents for place in _places(config))


def _places(config):
    return [Path(config.invocation_params.dir, argument.split("::")[0]).resolve() for argument in config.args]


def _has_all(place):
    return place == _CONFORMANCE or place in _CONFORMANCE.parents


# Options that deselect tests: {name in the configuration: option}.
_LIMITS = {"keyword": "-k", "markexpr": "-m", "shard": "--shard", "deselect": "--deselect", "lf": "--lf"}
_LIMITS |= {"ignore": "--ignore", "ignore_glob": "--ignore-glob", "stepwise": "--stepwise"}


def _part(config):
    """The options and paths that limit the run to a part of the conformance tests, as typed; empty for a whole run."""
    paths = [] if any(map(_has_all, _places(config))) else list(config.args)
    given = {option: config.getoption(name, None) for name, option in _LIMITS.items()}
    given = {option: value for option, value in given.items() if value and value != "1/1"}
    clauses = [f"--clause {number}" for number in sorted(set(config.getoption("clause") or ()))]
    return (
        paths + [option if value is True else f"{option} {_typed(value)}" for option, value in given.items()] + clauses
    )


def _typed(value):
    return " ".join(value) if isinstance(value, list) else value


def _check_profile(name):
    """Raise pytest.UsageError unless Hypothesis knows the profile."""
    try:
        settings.get_profile(name or "default")
    except InvalidArgument:
        raise pytest.UsageError(f"--hypothesis-profile {name}: not one of quick, default, long, thorough, ci") from None


def _import_torch():
    try:
        import torch
    except ImportError as error:
        raise pytest.UsageError(f"torch cannot be imported: {error}") from None
    if Version(torch.__version__) < Version(OLDEST):
        raise pytest.UsageError(f"torch {torch.__version__} is too old: {OLDEST} is the oldest that is modelled")
    return torch


def _import_backend(module):
    try:
        if module:
            importlib.import_module(module)
    except Exception as error:  # a module can fail in any way
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise pytest.UsageError(f"--import {module}: {reason}") from None


def _shard(text):
    """(number of the shard, number of shards) of --shard; (1, 1) without the option."""
    match = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text or "1/1")
    if not match or int(match[1]) > int(match[2]):
        raise pytest.UsageError(f"--shard {text}: not a part like 1/2 or 2/2")
    return int(match[1]), int(match[2])


def _model(version):
    """The version that --model names, or None."""
    try:
        model = Version(version) if version else None
    except InvalidVersion:
        raise pytest.UsageError(f"--model {version}: not a version") from None
    if model and not is_modelled(model):
        raise pytest.UsageError(f"--model {version}: no release that is modelled: {OLDEST} to {NEWEST}, the newest")
    return str(model) if model else None


def _seed_of(baseline):
    """The seed of the record that --baseline names, so that the run makes its calls again; else a random one."""
    try:
        return str(json.loads(Path(baseline).read_text())["environment"]["seed"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):  # tests/plugin.py says why it is none
        return str(random.SystemRandom().randrange(10**6))


def _prepare_paths(config, torch, part):
    name = f"{torch.__version__.split('+')[0]}-{config.getoption('device').replace(':', '')}"
    if config.getoption("subject"):
        name += f"-{config.getoption('subject').replace(':', '.').replace('=', '-')}"
    if part:
        shards = [limit.split()[1] for limit in part if limit.startswith("--shard ")]
        name += "-part" + "".join(f"-{shard.replace('/', '-of-')}" for shard in shards)
    report = Path(config.getoption("report") or config.rootpath / "reports" / f"{name}.json")
    try:
        report.parent.mkdir(parents=True, exist_ok=True)
        with open(report, "a"):
            pass
        if not report.stat().st_size:
            report.unlink()
    except OSError as error:
        raise pytest.UsageError(f"--report {report}: cannot be written: {error.strerror}") from None
    config.option.report = str(report)
    if not config.option.xmlpath:
        config.option.xmlpath = str(report.with_suffix(".xml"))
