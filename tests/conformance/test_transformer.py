"""nn.Transformer, and the stacks and layers of its encoder and decoder."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.measurement import session
from tests.harness.measurement.checking import check
from tests.harness.strategies.examples import share
from tests.harness.strategies.transformer import transformer_cases

RELEASE = session.current.release

MODULES = (
    pytest.param("TransformerEncoderLayer", marks=pytest.mark.subject("TransformerEncoderLayer")),
    "TransformerEncoder",
    "TransformerDecoderLayer",
    "TransformerDecoder",
    "Transformer",
)


@pytest.mark.parametrize("module", MODULES)
@share(2)
@given(data=st.data())
def test_inference_is_as_specified(module, data):
    check(data.draw(transformer_cases(RELEASE, module, inference=True)))


@pytest.mark.parametrize("module", MODULES)
@share(2)
@given(data=st.data())
def test_training_and_other_calls_are_as_specified(module, data):
    check(data.draw(transformer_cases(RELEASE, module, inference=False)))
