"""Options, Hypothesis profiles and usage errors. The hooks that measure are in tests/plugin.py, which imports torch."""

import gc
import importlib
import os
import random
import re
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from packaging.version import InvalidVersion, Version

from tests.harness.releases import NEWEST, OLDEST, is_modelled
from tests.harness.strategies.provider import INDEPENDENT

_STARTED = time.monotonic()  # before torch is imported and the ledger's pinned cases are tried, which takes a while

# Workers share the machine, and what each computes is small: threads in each would wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What torch consists of lives as long as the run: to look through it less often saves 6 % of its time.
gc.set_threshold(700, 10, 100)

_CONFORMANCE = Path(__file__).parent / "tests" / "conformance"

# A slow machine is no error of a test, so the health check for slowness is off.
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


def pytest_addoption(parser):
    group = parser.getgroup("attention masks")
    group.addoption("--device", default="cpu", help="any torch device string (default: cpu)")
    group.addoption("--import", dest="imported", metavar="MODULE", help="import it first: it brings the device along")
    group.addoption("--report", metavar="PATH", help="where the record goes (default: reports/<torch>-<device>.json)")
    group.addoption("--baseline", metavar="PATH", help="fail only on what is worse than in this record")
    group.addoption(
        "--shard", metavar="I/N", help="run the I-th of N parts; `python -m tests.tools merge` puts them together"
    )
    group.addoption(
        "--subject", metavar="MODULE:FACTORY", help="measure what this makes, in the place of nn.MultiheadAttention"
    )
    group.addoption(
        "--patience",
        metavar="SECONDS",
        type=float,
        default=600.0,
        help="once failures have taken so long, those of compiled calls are told as they are found (default: 600)",
    )
    group.addoption(
        "--clause",
        metavar="N",
        action="append",
        help="make only calls that exercise this clause of reference/README.md; can be given again",
    )
    group.addoption("--no-issues", action="store_true", help="leave no scripts and issues for what fails")
    group.addoption("--model", metavar="VERSION", help="judge by the model of this release, not of the installed one")
    group.addoption(
        "--no-ledger",
        action="store_true",
        help="judge by the specification alone; --strict fails when a known deviation is absent",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """Refuse options that cannot be met, and hand a measurement over to tests/plugin.py."""
    if not _measures(config):
        return
    if config.getoption("no_ledger") and config.getini("strict"):
        raise pytest.UsageError("--no-ledger and --strict contradict each other: without a ledger nothing is absent")
    if config.getoption("no_ledger") and config.getoption("model"):
        raise pytest.UsageError("--no-ledger and --model contradict each other: a model is the ledger of a release")
    torch = _import_torch()
    _import_backend(config.getoption("imported"))
    device = config.getoption("device")
    try:
        torch.empty(1, device=device)
    except Exception as error:  # torch raises many types here
        raise pytest.UsageError(f"--device {device}: torch cannot use it: {str(error).splitlines()[0]}") from None
    if not config.getoption("hypothesis_seed"):
        config.option.hypothesis_seed = str(random.SystemRandom().randrange(10**6))
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


# Options that leave out tests, by the name of their value.
_LIMITS = {"keyword": "-k", "markexpr": "-m", "shard": "--shard", "deselect": "--deselect", "lf": "--lf"}
_LIMITS |= {"ignore": "--ignore", "ignore_glob": "--ignore-glob", "stepwise": "--stepwise"}


def _part(config):
    """What limits the run to a part of the conformance tests, as it was typed; nothing if it has all of them."""
    paths = [] if any(map(_has_all, _places(config))) else list(config.args)
    given = {option: config.getoption(name, None) for name, option in _LIMITS.items()}
    given = {option: value for option, value in given.items() if value and value != "1/1"}
    clauses = [f"--clause {number}" for number in sorted(set(config.getoption("clause") or ()))]
    return (
        paths + [option if value is True else f"{option} {_typed(value)}" for option, value in given.items()] + clauses
    )


def _typed(value):
    return " ".join(value) if isinstance(value, list) else value


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
    """(which part, of how many) that --shard names; the whole without it."""
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


def _prepare_paths(config, torch, part):
    name = f"{torch.__version__.split('+')[0]}-{config.getoption('device').replace(':', '')}"
    if config.getoption("subject"):
        name += f"-{config.getoption('subject').replace(':', '.')}"
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
