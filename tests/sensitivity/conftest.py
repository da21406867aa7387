"""Faults are written for the newest releases: an older one lacks modules that they change."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("torch.nn.attention") else ["test_*.py"]
