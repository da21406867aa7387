"""flash-gradient-bfloat16 applies to the sizes with which torch 2.7 to 2.10 showed it, and to no others."""

import pytest
from packaging.version import Version

from tests.harness.cases.case import ScaledDotProduct
from tests.harness.deviations.call import Call
from tests.harness.deviations.low_precision import garbles_gradients
from tests.harness.execution.release import Release
from tests.harness.path_names import SDPA_FLASH

# (number of queries, number of keys) as measured with 2.7.1 and 2.10.0 on a CPU with AVX512
SHOWN = [(32, 129), (30, 140), (21, 200), (17, 256), (16, 257), (11, 400), (9, 520), (9, 1000), (192, 65), (768, 17)]
RIGHT = [(31, 129), (29, 140), (20, 200), (16, 256), (10, 400), (8, 520), (8, 1000), (191, 128), (192, 64), (768, 16)]


def _applies(L, S, **more):
    case = ScaledDotProduct(dtype="bfloat16", autograd="inputs", batch=(1, more.pop("heads", 2)), L=L, S=S, **more)
    return bool(garbles_gradients(Call(case, Release(Version("2.7.1"), "cpu"), (SDPA_FLASH,))))


@pytest.mark.parametrize("size", SHOWN)
def test_it_applies(size):
    assert _applies(*size)


@pytest.mark.parametrize("size", RIGHT)
def test_it_does_not_apply(size):
    assert not _applies(*size)


def test_it_needs_several_heads_of_one_feature():
    assert not _applies(32, 129, heads=1)
    assert not _applies(32, 129, D=2)
