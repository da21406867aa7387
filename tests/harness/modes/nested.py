"""Modes that pass nested tensors to a module or a function."""

from dataclasses import replace

from .mode import MODULES, SDPA, Mode

_PACKED = """\
def packed(*given, **options):
    size, padding = given[0].shape[-2], None
    if isinstance(module, torch.nn.Module):
        padding = options.TAKE("key_padding_mask", options.TAKE("src_key_padding_mask", None))
    elif "attn_mask" in options and options["attn_mask"].ndim == given[0].ndim:
        padding = ~options.pop("attn_mask").flatten(1)

    def lengths(tensor):
        is_padded = padding is not None and padding.shape[-1] == tensor.shape[-2]
        return (~padding).sum(-1).tolist() if is_padded else [tensor.shape[-2]] * len(tensor)

    def nested(tensor):
        samples = [sample[..., :length, :] for sample, length in zip(tensor, lengths(tensor))]
        return NEST

    def padded(result):
        if not result.is_nested:  # weights have the size of the longest sample
            missing = size - result.shape[-1]
            return torch.nn.functional.pad(result, (0, missing, 0, missing))
        samples = UNNEST
        return torch.stack([torch.nn.functional.pad(sample, (0, 0, 0, size - sample.shape[-2])) for sample in samples])

    its = {id(tensor): nested(tensor) for tensor in given}  # identity marks self-attention
    results = module(*(its[id(tensor)] for tensor in given), **options)
    if type(results) is tuple:
        return tuple(None if result is None else padded(result) for result in results)
    return padded(results)
"""


def _packed(nest, unnest, take="pop"):
    """Statements that pass the samples as a nested tensor. take="pop" drops the padding mask, "get" passes it, too."""
    return _PACKED.replace("UNNEST", unnest).replace("NEST", nest).replace("TAKE", take)


_STRIDED = _packed("torch.nested.as_nested_tensor(samples)", "result.unbind()")
_BESIDE_PADDING = _packed("torch.nested.as_nested_tensor(samples)", "result.unbind()", take="get")
_JAGGED = _packed(  # the jagged dimension must come directly after the batch
    "torch.nested.as_nested_tensor([sample.transpose(0, -2) for sample in samples], layout=torch.jagged)"
    ".transpose(1, -2)",
    "[\n"
    "            sample.transpose(0, -2)\n"
    "            for sample in result.transpose(1, -2).values().split(lengths(given[0]))\n"
    "        ]",
)

_IN_ORDER = ".transpose(1, -2)"  # the jagged dimension comes back directly after the batch
_VALUES = f"result{_IN_ORDER}.values().split(lengths(given[0]))"
_BACK = f"[sample.transpose(0, -2) for sample in {_VALUES}]"

# A view of the padded batch, with a foreign row before and behind each sample.
_NARROWED = f"""torch.nested.narrow(
            torch.nn.functional.pad(tensor, (0, 0, 1, 1), value=99.0){_IN_ORDER}.contiguous(),
            1,
            torch.ones(len(tensor), dtype=torch.int64),
            torch.tensor(lengths(tensor)),
            layout=torch.jagged,
        )"""
_JAGGED_NARROW = _packed(f"{_NARROWED}{_IN_ORDER}", _BACK)
_JAGGED_CONTIGUOUS = _packed(f"{_NARROWED}.contiguous(){_IN_ORDER}", _BACK)

_FROM_VALUES = f"""torch.nested.nested_tensor_from_jagged(
            torch.cat([sample.transpose(0, -2) for sample in samples]),
            torch.tensor([0, *lengths(tensor)]).cumsum(0),
        ){_IN_ORDER}"""
_JAGGED_FROM_VALUES = _packed(_FROM_VALUES, f"torch.nested.to_padded_tensor(result{_IN_ORDER}, 0.0){_IN_ORDER}")
_PADDED = "torch.nested.to_padded_tensor(result, 0.0)"  # the jagged dimension is the second last
_JAGGED_TO_PADDED = _packed(
    f"torch.nested.as_nested_tensor([sample.transpose(0, -2) for sample in samples], layout=torch.jagged){_IN_ORDER}",
    _PADDED,
)
_JAGGED_VALUES_TO_PADDED = _packed(_FROM_VALUES, _PADDED)

# The nested tensor has two elements with different numbers of samples; all sequences have the same length.
_JAGGED_BATCH = """\
def packed(*given, **options):
    its = [torch.nested.as_nested_tensor(list(tensor.tensor_split(2)), layout=torch.jagged) for tensor in given]
    return module(*its, **options).values()
"""

_NESTED = Mode(
    "nested_strided",
    _STRIDED,
    "packed",
    calls=(MODULES, SDPA),
    needs="nested",
    warns="nested tensors is in prototype|All tensors need to be on cuda device",  # why torch rejects a backend
    everywhere=False,
)

NESTED = (
    _NESTED,
    replace(
        _NESTED,
        id="nested_jagged",
        kin="nested_strided",
        made=_JAGGED,
        since="2.3",  # before, no kernel on CPU takes this layout
    ),
    *(
        replace(
            _NESTED, id=id, kin="nested_strided", made=made, calls=(SDPA,), since="2.7", only_on="cpu", is_rare=True
        )
        for id, made in (  # 2.6 has no contiguous() and to_padded_tensor() in inference mode, earlier ones never have
            ("jagged_narrow", _JAGGED_NARROW),
            ("jagged_contiguous", _JAGGED_CONTIGUOUS),
            ("jagged_from_values", _JAGGED_FROM_VALUES),
            ("jagged_to_padded", _JAGGED_TO_PADDED),
            ("jagged_values_to_padded", _JAGGED_VALUES_TO_PADDED),
        )
    ),
    replace(
        _NESTED,
        id="nested_beside_padding",
        kin="nested_strided",
        made=_BESIDE_PADDING,
        calls=(MODULES,),
        only_on="cpu",  # measured on CPU only
    ),
    Mode(
        "jagged_batch",
        _JAGGED_BATCH,
        "packed",
        calls=(SDPA,),
        needs="nested",
        since="2.5",  # before, its results have no backward pass
        everywhere=False,
        only_on="cpu",
    ),
)
