"""Claims about query heads that share the heads of key and value: grouped query attention, `enable_gqa=True`."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from reference.attention import scaled_dot_product_attention

from .claim import Claim
from .comparing import arbitrary, array, near, needs_sdpa, since

needs_gqa = pytest.mark.skipif(not since("2.5"), reason="enable_gqa comes with torch 2.5")

QUERY, KEY, VALUE = arbitrary(2, 4, 3, 8), arbitrary(2, 2, 5, 8) + 1, arbitrary(2, 2, 5, 8) + 2


def with_shared_heads(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, keep: torch.Tensor | None = None
) -> torch.Tensor:
    """Grouped query attention on every release: query (N, heads, L, D), key and value (N, kv_heads, S, D)."""
    size = query.shape[1] // key.shape[1]  # of a group
    key, value = (each.repeat_interleave(size, dim=1) for each in (key, value))
    return F.scaled_dot_product_attention(query, key, value, keep)


GROUPS = Claim(
    id="grouped-heads",
    says="`enable_gqa=True` does what `key.repeat(1, groups, 1, 1)` does by hand.",
    verdict="false",
    because="""
    Neighbouring query heads share a head of key and value, as after `repeat_interleave(groups, dim=1)`: of four query
    heads the first two take the first key head. `repeat` gives the first and the third that head, without an error and
    with another result. Results and gradients of `enable_gqa=True` are those of `repeat_interleave`, with any mask and
    with `is_causal=True`. The number of query heads must be a multiple: "Number of heads in key and value must divide
    the number of heads in query". Heads are axis 1; with inputs (N, L, heads, D) lengths are taken for heads. Before
    2.5 the argument does not exist ("unexpected keyword argument 'enable_gqa'"); the recipe works on every release
    from 2.0 on. Without the argument, several key heads raise ("The size of tensor a (4) must match the size of tensor
    b (2)"), and a single one, as in multi-query attention, is broadcast on CPU.
    """,
    recipe=(with_shared_heads,),
    proof=(
        "test_neighbouring_query_heads_share_a_head",
        "test_enable_gqa_is_the_recipe",
        "test_gradients_of_enable_gqa_are_those_of_the_recipe",
        "test_heads_that_are_no_multiple_are_refused",
        "test_lengths_are_taken_for_heads",
        "test_older_releases_do_not_know_the_argument",
        "test_without_the_argument_only_a_single_head_is_shared",
    ),
)


@needs_gqa
def test_neighbouring_query_heads_share_a_head():
    value = torch.tensor([3.0, 5.0])[:, None, None].expand(1, 2, 5, 8)  # a number for each head
    key, query = torch.zeros(1, 2, 5, 8), torch.zeros(1, 4, 3, 8)
    near(F.scaled_dot_product_attention(query, key, value, enable_gqa=True)[0, :, 0, 0], [3, 3, 5, 5])
    repeated = (each.repeat(1, 2, 1, 1) for each in (key, value))
    near(F.scaled_dot_product_attention(query, *repeated)[0, :, 0, 0], [3, 5, 3, 5])


def by_hand(keep: np.ndarray | bool = True) -> np.ndarray:
    """The output on QUERY, KEY and VALUE by the reference, one query head after the other."""
    keep = np.broadcast_to(keep, (2, 4, 3, 5))
    heads = [(array(QUERY)[:, h], array(KEY)[:, h // 2], array(VALUE)[:, h // 2], keep[:, h]) for h in range(4)]
    return np.stack([scaled_dot_product_attention(*each) for each in heads], axis=1)


@needs_gqa
def test_enable_gqa_is_the_recipe():
    expected = by_hand()
    near(F.scaled_dot_product_attention(QUERY, KEY, VALUE, enable_gqa=True), expected)
    near(with_shared_heads(QUERY, KEY, VALUE), expected)
    causal = F.scaled_dot_product_attention(QUERY, KEY, VALUE, is_causal=True, enable_gqa=True)
    near(causal, by_hand(np.tri(3, 5, dtype=bool)))


@needs_gqa
def test_gradients_of_enable_gqa_are_those_of_the_recipe():
    inputs = [each.clone().requires_grad_() for each in (QUERY, KEY, VALUE)]
    keep = torch.ones(3, 5, dtype=torch.bool).tril()
    grouped = F.scaled_dot_product_attention(*inputs, keep, enable_gqa=True)
    recipe = with_shared_heads(*inputs, keep)
    pairs = zip(*(torch.autograd.grad(output.square().sum(), inputs) for output in (grouped, recipe)), strict=True)
    for one, other in pairs:
        assert other.any()
        near(one, array(other))


@needs_gqa
@pytest.mark.parametrize("heads", [1, 3, 5])
def test_heads_that_are_no_multiple_are_refused(heads):
    with pytest.raises(RuntimeError, match="Number of heads in key and value must divide the number of heads in"):
        F.scaled_dot_product_attention(arbitrary(2, heads, 3, 8), KEY, VALUE, enable_gqa=True)


@needs_gqa
def test_lengths_are_taken_for_heads():
    last = [each.transpose(1, 2) for each in (QUERY, KEY, VALUE)]  # (N, length, heads, D): lengths of 3 and 5
    with pytest.raises(RuntimeError, match="must divide the number of heads in"):
        F.scaled_dot_product_attention(*last, enable_gqa=True)


@needs_sdpa
@pytest.mark.skipif(since("2.5"), reason="this release has enable_gqa")
def test_older_releases_do_not_know_the_argument():
    with pytest.raises(TypeError, match="unexpected keyword argument 'enable_gqa'"):
        F.scaled_dot_product_attention(QUERY, KEY, VALUE, enable_gqa=True)
    near(with_shared_heads(QUERY, KEY, VALUE), by_hand())


@needs_sdpa
def test_without_the_argument_only_a_single_head_is_shared():
    with pytest.raises(RuntimeError, match=r"size of tensor a \(4\) must match the size of tensor b \(2\)"):
        F.scaled_dot_product_attention(QUERY, KEY, VALUE)
    single = [each[:, :1] for each in (KEY, VALUE)]
    near(F.scaled_dot_product_attention(QUERY, *single), array(with_shared_heads(QUERY, *single)))


def for_query_heads(keep: torch.Tensor, heads: int) -> torch.Tensor:
    """A mask for each key head (N, kv_heads, L, S) as one for each query head (N, heads, L, S)."""
    return keep.repeat_interleave(heads // keep.shape[1], dim=1)


TAKEN, REFUSED = "yes", "no"
# (mask, its shape with 2 samples, 4 query heads, 2 key heads, 3 queries and 5 keys, taken)
SHAPES = (
    ("one for all: (L, S)", "(3, 5)", TAKEN),
    ("per sample: (N, 1, L, S)", "(2, 1, 3, 5)", TAKEN),
    ("padding: (N, 1, 1, S)", "(2, 1, 1, 5)", TAKEN),
    ("per query head: (heads, L, S)", "(4, 3, 5)", TAKEN),
    ("per sample and query head: (N, heads, L, S)", "(2, 4, 3, 5)", TAKEN),
    ("per key head: (kv_heads, L, S)", "(2, 3, 5)", REFUSED),
    ("per sample and key head: (N, kv_heads, L, S)", "(2, 2, 3, 5)", REFUSED),
    ("per sample without an axis for heads: (N, L, S)", "(2, 3, 5)", REFUSED),
)

MASK_OF_GROUPS = Claim(
    id="grouped-heads-mask",
    says="With `enable_gqa=True` the mask has the heads of the key.",
    verdict="false",
    because="""
    A mask broadcasts to the scores (N, heads, L, S), which have the heads of the query. A mask of the key heads
    raises "The size of tensor a (4) must match the size of tensor b (2) at non-singleton dimension 1"; repeat it for
    the query heads, as below. The table is of 2 samples, 4 query heads and 2 key heads, for bool and for float masks.
    A mask (N, L, S) is taken, and silently wrong, where N equals the number of query heads, as without groups: samples
    are taken for heads.
    """,
    recipe=(for_query_heads, with_shared_heads),
    proof=(
        "test_a_mask_has_the_heads_of_the_query",
        "test_a_mask_of_key_heads_is_repeated",
        "test_samples_are_taken_for_query_heads",
    ),
    table=(("mask", "shape", "taken"), *SHAPES),
)


def mask_of(shape: str) -> torch.Tensor:
    """A bool mask of a shape of the table; each query sees the first key."""
    keep = arbitrary(*map(int, shape.strip("()").split(", "))) > 0
    keep[..., 0] = True
    return keep


@needs_gqa
@pytest.mark.parametrize("is_float", [False, True])
@pytest.mark.parametrize("words, shape, taken", SHAPES)
def test_a_mask_has_the_heads_of_the_query(words, shape, taken, is_float):
    keep = mask_of(shape)
    mask = torch.zeros(keep.shape, dtype=QUERY.dtype).masked_fill(~keep, -torch.inf) if is_float else keep
    if taken == TAKEN:
        near(F.scaled_dot_product_attention(QUERY, KEY, VALUE, mask, enable_gqa=True), by_hand(array(keep)))
        return
    with pytest.raises(RuntimeError, match=r"size of tensor a \(4\) must match the size of tensor b \(2\)"):
        F.scaled_dot_product_attention(QUERY, KEY, VALUE, mask, enable_gqa=True)


@needs_gqa
def test_a_mask_of_key_heads_is_repeated():
    keep = mask_of("(2, 2, 3, 5)")
    expected = by_hand(np.repeat(array(keep), 2, axis=1))
    mask = for_query_heads(keep, 4)
    near(F.scaled_dot_product_attention(QUERY, KEY, VALUE, mask, enable_gqa=True), expected)
    near(with_shared_heads(QUERY, KEY, VALUE, mask), expected)


@needs_gqa
def test_samples_are_taken_for_query_heads():
    query, key, value = (
        torch.zeros(4, 4, 3, 8),
        torch.zeros(4, 2, 5, 8),
        torch.arange(1.0, 6)[:, None].expand(4, 2, 5, 8),
    )
    keep = torch.eye(5, dtype=torch.bool)[:4, None].expand(4, 3, 5)  # sample n sees key n
    output = F.scaled_dot_product_attention(query, key, value, keep, enable_gqa=True)
    near(output[..., 0, 0], [[1, 2, 3, 4]] * 4)  # varies by head
    output = F.scaled_dot_product_attention(query, key, value, keep[:, None], enable_gqa=True)
    near(output[..., 0, 0], [[1] * 4, [2] * 4, [3] * 4, [4] * 4])
