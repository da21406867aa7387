"""Modes that call a module or function under torch.func.vmap, beside other contents."""

from dataclasses import replace

from .mode import FUNCTIONAL, MODULES, SDPA, Mode

VMAP_OF_PARAMETERS = "vmap_of_parameters"  # id of a mode

_VMAP = """\
def twice(*given, **options):
    mapped = {{name: value for name, value in options.items() if {is_mapped}}}
    others = {{name: value for name, value in options.items() if name not in mapped}}
    unmapped = [*others.values(), {unmapped}*getattr(module, "parameters", tuple)()]
    learns = torch.is_grad_enabled() and any(getattr(value, "requires_grad", False) for value in unmapped)

    def pair(tensor):  # adds other contents: rolled rows, so that other positions are hidden
        other = tensor.detach()
        if learns:  # the same positions, as NaN of the other contents would reach gradients of what is not mapped
            other = other / 2 if other.is_floating_point() else other
        else:
            other = other.roll(1, -2) if other.ndim > 1 and other.shape[-2] > 1 else other.roll(1)
        return torch.stack([other, tensor], {axis})

    def once(mapped, sequences):
        results = module(*(sequences[id(tensor)] for tensor in given), **mapped, **others)
        return tuple(result for result in results if result is not None) if type(results) is tuple else results

    pairs = {{name: pair(value) for name, value in mapped.items()}}
    sequences = {{id(tensor): {sequence} for tensor in given}}  # identity marks self-attention
    results = torch.func.vmap(once, in_dims=({axis}, {sequences}))(pairs, sequences)
    return tuple(result[1] for result in results) if type(results) is tuple else results[1]
"""

_IS_TENSOR = "isinstance(value, torch.Tensor)"
_OF_SEQUENCES = {"sequence": "pair(tensor)", "sequences": 0, "unmapped": "", "axis": 0}
_ALL_MAPPED = _VMAP.format(is_mapped=_IS_TENSOR, **_OF_SEQUENCES)
_SEQUENCES_MAPPED = _VMAP.format(is_mapped=f"{_IS_TENSOR} and 'mask' not in name", **_OF_SEQUENCES)
_MASKS_MAPPED = _VMAP.format(
    is_mapped=f"{_IS_TENSOR} and 'mask' in name", sequence="tensor", sequences=None, unmapped="*given, ", axis=-1
)

# Two modules in one call; the other one has parameters of half the size.
_ENSEMBLE = """\
hollow = copy.deepcopy(module).to("meta")

def ensemble(*given, **options):
    def once(parameters):
        results = torch.func.functional_call(hollow, parameters, given, options)
        return tuple(result for result in results if result is not None) if type(results) is tuple else results

    pairs = {name: torch.stack([value / 2, value]).detach() for name, value in module.named_parameters()}
    results = torch.func.vmap(once)(pairs)
    return tuple(result[1] for result in results) if type(results) is tuple else results[1]
"""


def of_parameters(warns: str) -> Mode:
    """The mode that maps the parameters, as for an ensemble of modules. warns: see Mode."""
    return Mode(
        VMAP_OF_PARAMETERS,
        _ENSEMBLE,
        "ensemble",
        needs="func",
        only_on="cpu",  # measured on CPU only
        since="2.3",  # before, vmap cannot call the fused kernel
        is_watched=False,
        differentiates=False,
        converts_masks=False,  # vmap adds a mask in its own way
        warns=warns,
    )


def modes(calls: tuple[str, ...], warns: str) -> tuple[Mode, Mode, Mode]:
    """The modes that map all tensors, those that are no masks, and the masks alone. calls, warns: see Mode."""
    mapped = Mode(
        "vmap",
        _ALL_MAPPED,
        "twice",
        calls=calls,
        needs="func",
        everywhere=False,
        since="2.0",
        is_watched=False,
        copies="all",
        warns=warns,
    )
    of_sequences = replace(mapped, id="vmap_of_sequences", kin="vmap", copies="sequences", made=_SEQUENCES_MAPPED)
    of_masks = replace(
        mapped,
        id="vmap_of_masks",
        kin="vmap",
        copies="masks",
        made=_MASKS_MAPPED,
        only_on="cpu",  # measured on CPU only
        calls=(*[MODULES] * 4, FUNCTIONAL, *[SDPA] * 5),  # stacks refuse many masks
        times=2,
        since="2.3",  # before, vmap cannot call the fused kernel
    )
    return mapped, of_sequences, of_masks
