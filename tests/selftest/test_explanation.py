"""Failing calls are explained by the right change of the model, and calls of two changes by none of them alone."""

import json
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest

from tests.harness.cases.case import MultiHead, ScaledDotProduct, Transformer
from tests.harness.cases.masks import Mask
from tests.harness.deviations import ledger
from tests.harness.deviations.entry import Deviation
from tests.harness.deviations.refusals import REFUSALS
from tests.harness.execution.runner import observe
from tests.harness.expectation.changes import raising, warning
from tests.harness.explanation.conditions import condition, conjunction, holds
from tests.harness.explanation.edits import Edits
from tests.harness.explanation.explain import explain, explained_parts
from tests.harness.explanation.explanation import BACK, BEHAVIOUR, GONE, NARROWER, NEW, WIDER, Explanation
from tests.harness.explanation.groups import Explained, Judge, explained
from tests.harness.explanation.neighbours import neighbours
from tests.harness.explanation.rows import ModelOfRows, explained_rows
from tests.harness.explanation.sight import Model, sighted
from tests.harness.judgement.groups_of_test import Group  # noqa: F401
