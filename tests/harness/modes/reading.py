"""The mode in which a function that inductor compiles makes its mask by reading one at positions."""

from dataclasses import replace

from .mode import SDPA, Mode

COMPILED_READING = "compiled_inductor_reading"  # id of the mode

# By TorchDynamo's rule, the sizes that differ from those of the first call become variables of the second graph.
_READING = """\
def reading(query, key, value, attn_mask=None, **options):  # a mask that is made of functions of positions
    if attn_mask is not None and attn_mask.ndim > 1:
        queries, keys = torch.arange(query.shape[-2])[:, None], torch.arange(key.shape[-2])
        rows = queries if attn_mask.shape[-2] > 1 else 0 * queries
        columns = keys if attn_mask.shape[-1] > 1 else 0 * keys
        read = attn_mask[..., rows, columns]
        attn_mask = (keys >= 0) & read if read.dtype is torch.bool else torch.where(keys >= 0, read, -torch.inf)
    return module(query, key, value, attn_mask, **options)

torch._dynamo.reset()
function = torch.compile(reading)

def longer(tensor, *axes):
    for axis in axes:
        tensor = torch.cat((tensor, tensor.narrow(axis, 0, 1)), axis)
    return tensor

def compiled(query, key, value, attn_mask=None, **options):
    others = [longer(its, -2) for its in (query, key, value)]
    if attn_mask is not None:
        axes = [axis for axis in (-2, -1) if attn_mask.ndim >= -axis and attn_mask.shape[axis] > 1]
        others.append(longer(attn_mask, *axes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            function(*others, **options)
        except Exception:  # only the next call is judged
            pass
    return function(query, key, value, attn_mask, **options)
"""


def mode(compiled: Mode) -> Mode:
    """The mode. compiled: another mode of torch.compile."""
    return replace(
        compiled,
        id=COMPILED_READING,
        kin=compiled.id,
        made=_READING,
        calls=(SDPA,),
        serves="",
        since="2.6",
        builds=True,
        drops=False,  # inductor has its own random numbers
        differentiates=False,
        converts_masks=False,
    )
