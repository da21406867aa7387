"""What is generated. Structure is drawn by Hypothesis; contents come from one drawn seed (see arrays.py).

Every choice lists its simplest value first, towards which a failing case shrinks: no mask, length 1, float64,
no autograd, everything contiguous. Drawing costs more than running, so that choices that belong together are one draw.
"""

from dataclasses import replace
from functools import cache
from itertools import combinations, product

from hypothesis import strategies as st

from .arrays import nonfinite_positions
from .cases import AUTOGRAD, UNRECORDED, MultiHead, ScaledDotProduct, SquareSubsequentMask, Transformer, masks_of
from .dropping import drops
from .masks import ATTENTION_PATTERNS, LAYOUTS, PADDING_PATTERNS, VALUES, Mask
from .modes import FUNCTIONAL, MODES, SDPA
from .modes import MODULES as ANY_MODULE
from .packing import BESIDE, NESTED
from .precision import LOW
from .releases import since
from .square_mask import DEVICES

# A sequence is mostly up to 5 long, sometimes past the boundaries of the kernels' tiles and vectors, rarely 0.
EDGES = (7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129)
_LENGTHS = (*range(1, 6), *(2, 3, 4, 5) * 10, *EDGES, 0)
_SOURCES = (*_LENGTHS, 257)  # the native layers count in blocks, too
_OF_NATIVE_PATHS = (*_SOURCES, 1025)  # and take another softmax beyond 1,024 keys
_NEARLY_CAUSAL = (*range(1, 6), *(17, 33, 65, 129) * 6)  # begins as the others do, to shrink in whichever is drawn from
_SAMPLES = (*(1, 2, 3) * 12, 5, 9, 0)
_KEYS = (*_LENGTHS, 511, 512, *(513, 1025) * 3)  # the fused kernels take keys in blocks of up to 512
_QUERIES = (*_LENGTHS, 193, 769)  # and queries in blocks of 32, then 64, then 256
_LONG = ((520, 520), (769, 769), (520, 1025))  # rarely both, of one head: a causal diagonal crosses blocks there

_WITHOUT_GRADIENT = ("no_grad", "inference_mode", "frozen")
_SEEDS = st.integers(0, 2**16 - 1)
evenly = cache(st.sampled_from)  # to make a strategy costs more than to draw from it


def one_of(draw, *values):
    """One of the values, a repeated one more often; shrinks to the first."""
    return draw(evenly(values))


def mixed(*strategies):
    """One of the strategies, a repeated one more often: st.one_of takes each once, and apart what was mixed before."""
    return evenly(range(len(strategies))).flatmap(strategies.__getitem__)


# ---- masks ---------------------------------------------------------------------------------------------------------

_FORMS = (*[("bool", "inf")] * 12, *(("float", values) for values in ("inf", "bias", "finite", *VALUES)))
_LAYOUTS = (*["contiguous"] * 8, *LAYOUTS)
_DTYPES_OF_MASKS = (*[None] * 15, "float32", "float32", "float64", "bfloat16", "float16")
_PADDINGS = tuple(Mask(form, pattern, values) for pattern in PADDING_PATTERNS for form, values in _FORMS)
_MASKS = (
    tuple(
        Mask(form, pattern, values, per_head)
        for per_head in (False, True)
        for pattern in ATTENTION_PATTERNS
        for form, values in _FORMS
    )
    + (Mask("bool", "causal"), Mask("float", "causal")) * 64  # what most people use, and what hints speak of
    + (Mask("bool", "nearly_causal"), Mask("float", "nearly_causal")) * 12  # and what may be taken for it
    + (Mask("float", "causal", "bias"), Mask("float", "causal", "bias", per_head=True)) * 16  # biases of positions
)


_LAYOUTS_AND_DTYPES = evenly(tuple(product(_LAYOUTS, _DTYPES_OF_MASKS)))


@cache
def _optional(is_padding, nones):
    """A mask or None; the more `nones`, the more often."""
    recipes = _PADDINGS if is_padding else _MASKS
    return evenly((*[None] * (nones * len(recipes) // 4), *recipes))


def attention_mask(draw, release, nones=2, is_padding=False):
    """An attention mask of any recipe and layout, or None; a float one seldom of a dtype that is not the inputs'."""
    recipe = draw(_optional(is_padding, nones))
    if recipe is None:
        return None
    layout, dtype = draw(_LAYOUTS_AND_DTYPES)
    if recipe.is_float and dtype in release.mask_dtypes:
        recipe = replace(recipe, dtype=dtype)
    if layout == "contiguous":
        return recipe
    if layout == "expanded" and not is_padding:  # over the queries, if all of them see the same
        recipe = replace(recipe, pattern=one_of(draw, recipe.pattern, "column", "last_column"))
    return replace(recipe, layout=layout)


def padding_mask(draw, release, nones=2):
    """A key padding mask, or None."""
    return attention_mask(draw, release, nones, is_padding=True)


def _is_causal(mask):
    return mask is not None and mask.pattern == "causal" and mask.values == "inf"


def hint(draw, mask):
    """A true hint about the mask, or none: a false one is undefined (clause 6). False claims nothing, of any mask."""
    return one_of(draw, None, True, True, False) if _is_causal(mask) else one_of(draw, None, None, False)


# ---- what all cases have -------------------------------------------------------------------------------------------


def common(draw, release, autograd=AUTOGRAD):
    """The fields of every case."""
    # a GPU's own kernels take no float64
    dtypes = release.dtypes if release.device_type == "cpu" else (*release.dtypes, *release.dtypes[1:] * 2)
    dtype, layout = draw(evenly(tuple(product(dtypes, _LAYOUTS))))
    autograd, garbage = draw(evenly(tuple(product(autograd, (False, False, True)))))
    return {"dtype": dtype, "seed": draw(_SEEDS), "autograd": autograd, "layout": layout, "garbage": garbage}


def lengths(draw, of_queries=_LENGTHS):
    """Of queries and of keys, equal half the time."""
    queries = draw(evenly(of_queries))
    if one_of(draw, True, False) and queries in _LENGTHS:
        return queries, queries
    return queries, draw(evenly(_KEYS if queries <= 5 else _LENGTHS))


def variations(draw, *options):
    """Up to two of the options, each a dict of fields, as one dict; often none. Shrinks to none."""
    return dict(draw(_variations(tuple(tuple(option.items()) for option in options))))


@cache
def _variations(options):
    pairs = [a + b for a, b in combinations(options, 2)]
    return evenly((*[()] * len(pairs), *options, *pairs))


# `inference` cases are in eval, batched, batch-first, and autograd sees no parameter: the native paths want all of it.


def _heads(draw, even, smallest=1):
    """num_heads and head_dim, whose product is at least `smallest`: a norm over few features is ill-conditioned."""
    shapes = [(h, d) for h in ((2, 4) if even else (1, 2, 3, 4)) for d in (1, 2, 3, 4, 8) if h * d >= smallest]
    shapes += [(2, 17), (2, 33), (6, 1), (8, 2), (18, 1)] + ([] if even else [(5, 2), (1, 65)])
    num_heads, head_dim = draw(evenly(tuple(shapes)))
    return {"num_heads": num_heads, "head_dim": head_dim}


# ---- cases ---------------------------------------------------------------------------------------------------------


@st.composite
def scaled_dot_product_cases(draw, release, inference=False):
    """Calls of F.scaled_dot_product_attention: 3-D to 5-D, with masks of every broadcastable shape."""
    batch, kv_heads = draw(_batches(release.has_enable_gqa))
    is_long = batch == (1, 1) and one_of(draw, False, True)
    L, S = draw(evenly(_LONG)) if is_long else lengths(draw, _QUERIES)
    L, S = one_of(draw, *[(L, S)] * 8, (batch[0], S), (batch[-1],) * 2)
    D, Dv = draw(evenly(_FEATURES if release.device_type == "cpu" else (*_FEATURES, *_ALIGNED)))
    case = ScaledDotProduct(
        **common(draw, release, UNRECORDED if inference else (*AUTOGRAD[:-2], "one_input")),
        batch=batch,
        kv_heads=kv_heads,
        L=L,
        S=S,
        D=D,
        Dv=Dv,
        is_causal=one_of(draw, *[False] * (1 if is_long else 4), True),
        scale=one_of(draw, None, None, None, 0.5, 2.0, -1.0, 0.0) if release.has_scale else None,
        dropout=one_of(draw, *[0.0] * 10, 0.5, 0.1) if release.shows_dropout else 0.0,
    )
    attn_mask = None if case.is_causal else attention_mask(draw, release, nones=1)
    if attn_mask is None:
        return case
    mask_batch = batch if attn_mask.per_head else one_of(draw, *_broadcastable(batch))
    broadcast = one_of(draw, *[""] * 6, "L", "L", "S", "S", "1-D", "0-D")
    mask_batch = () if broadcast.endswith("-D") else mask_batch
    has_heads = len(mask_batch) > 1 and mask_batch[-1] > 1
    attn_mask = replace(attn_mask, per_head=False, over_heads=has_heads and one_of(draw, False, True, True))
    return replace(case, attn_mask=attn_mask, mask_batch=mask_batch, broadcast=broadcast)


_WIDE = ((17, 17), (33, 3), (65, 65))  # past the width of a vector
_FEATURES = (*((D, Dv) for D in (1, 2, 3, 4, 8, 16) for Dv in (D, D, 1, 3)), *_WIDE)
_ALIGNED = tuple((D, D) for D in (8, 16, 24, 32, 64, 128, 136, 256, 4, 12, 20)) * 4  # what a GPU's own kernels take


_WITHOUT_HEADS = ((2, 0), (0,), (2, 0, 2))


@cache
def _batches(has_enable_gqa):
    """(batch dimensions, kv_heads or None)"""
    plain = [((n, h), None) for n in (1, 2, 3) for h in (1, 2, 3)]
    plain += [(batch, None) for batch in ((3,), (2, 3, 2), (2, 2, 3), (0, 2), (5, 1), (1, 8), (2, 17), *_WITHOUT_HEADS)]
    grouped = [((n, kv * group), kv) for n in (1, 2) for kv in (1, 2) for group in (1, 2, 3)] if has_enable_gqa else []
    return evenly((*plain, *grouped[::2]))


def _broadcastable(batch):
    """All batch dimensions of a mask that broadcast to `batch`; most often none, as most people have it."""
    tails = [batch[len(batch) - kept :] for kept in range(len(batch) + 1)]
    shapes = dict.fromkeys(shape for tail in tails for shape in product(*((1, size) for size in tail)))
    return (*[()] * 3, *shapes, *[batch] * 2)


@st.composite
def multi_head_cases(draw, release, inference=False, functional=False):
    """Calls of nn.MultiheadAttention, or of F.multi_head_attention_forward; `inference` as one infers."""
    attention = one_of(draw, "self", "self", "self", "distinct") if inference else one_of(draw, *_ATTENTIONS)
    own = _OF_NATIVE_PATHS if inference and attention == "self" else _LENGTHS
    L, S = lengths(draw) if attention in ("cross", "distinct") else (one_of(draw, *own),) * 2
    attn_mask, key_padding_mask = attention_mask(draw, release), padding_mask(draw, release)
    case = MultiHead(
        **common(draw, release, (*UNRECORDED, "one_parameter") if inference else (*AUTOGRAD[:-1], "one_input")),
        **_heads(draw, inference),
        N=draw(evenly(_SAMPLES)),
        L=L,
        S=S,
        attention=attention,
        attn_mask=attn_mask,
        key_padding_mask=key_padding_mask,
        is_causal=bool(release.has_causal_hints and hint(draw, attn_mask)),
        functional=functional,
        **draw(_WEIGHTS),
    )
    options = [{"dropout": 0.5}, {"bias": False}, {"add_bias_kv": True}, {"add_zero_attn": True}]
    if not inference and release.shows_dropout:
        options += _DROPOUTS
    options += [{"fast_path": False}] if release.has_fast_path_switch else []
    if attention == "distinct":
        options += [{"kdim": case.E + 1, "vdim": case.E + 2}] * 3
    if functional:
        options += [{"static": True}] * 2
    if not inference:
        options += [{"training": True}, {"batched": False}, *[{"batch_first": False}] * (not functional)]
    options += _coincidences(case, "S", {"L": case.num_heads, "S": case.num_heads})
    chosen = variations(draw, *options)
    return release.adapt(_small_if_long(replace(case, **_without_contradictions(chosen, release))))


_DROPOUTS = [{"training": True, "dropout": p} for p in (0.5, 0.1)]
_ATTENTIONS = ("self", "copies", "cross", "distinct")
_WEIGHTS = st.sampled_from(
    [{"need_weights": need, "average_attn_weights": average} for need in (True, False) for average in (True, False)]
)


def _small_if_long(case):
    """The case with one sample and two heads, if it attends from so many positions that more would take seconds."""
    queries = case.T if getattr(case, "has_decoder", False) else getattr(case, "L", case.S)
    return replace(case, N=1, num_heads=2, head_dim=2) if queries > 1024 else case


def _coincidences(case, length, equal_lengths):
    """Options that make sizes equal which have nothing to do with each other: one may be taken for the other."""
    samples = getattr(case, length)
    return [{"N": case.num_heads}, equal_lengths, *[{"N": samples}] * (samples <= 9)]


def _without_contradictions(chosen, release):
    """One sample is no batch; what is dropped must be seen; static keys exclude appended ones."""
    if not chosen.get("batched", True):
        chosen["N"] = 1
    if chosen.get("training") and not release.shows_dropout:
        chosen.pop("dropout", None)
    if chosen.get("static"):
        chosen.pop("add_bias_kv", None)
    return chosen


_SMOOTH = (*["gelu"] * 4, "silu")  # with silu, encoder layers leave their native path
_ACTIVATIONS = (*["relu"] * 5, *_SMOOTH, "gelu_tanh")


@st.composite
def transformer_cases(draw, release, module, inference=False):
    """Calls of one of nn.Transformer, its stacks and its layers; `inference` as one infers."""
    has_encoder, has_decoder = not module.startswith("TransformerDecoder"), not module.startswith("TransformerEncoder")
    shared = common(draw, release, (*UNRECORDED, "one_parameter", "last_layer") if inference else AUTOGRAD)
    masks = {}
    if has_encoder:
        masks |= {"src_mask": attention_mask(draw, release, 4), "src_key_padding_mask": padding_mask(draw, release)}
    if has_decoder:
        masks |= {"tgt_mask": attention_mask(draw, release), "tgt_key_padding_mask": padding_mask(draw, release, 4)}
        masks |= {"memory_mask": attention_mask(draw, release, 4)}
        masks |= {"memory_key_padding_mask": padding_mask(draw, release)}
    T, S = _target_and_source(draw, module, masks, inference)
    may_jump = shared["dtype"] == "float64" or shared["autograd"] in UNRECORDED[:-1]
    activations = _ACTIVATIONS if may_jump else _SMOOTH if has_decoder else (*_SMOOTH, "gelu_tanh")
    dim_feedforward, activation = draw(evenly(tuple(product((1, 4, 7), activations))))
    layers = (*(1, 2, 3) * 4, 5)
    if module == "Transformer":  # its stacks are asked for more by themselves
        # what the decoder's second layer sees has a gradient, frozen or not
        layers = (1,) if shared["autograd"] == "one_parameter" else (1, 2)
    case = Transformer(
        **shared,
        **masks,
        **_heads(draw, inference, smallest=4),
        **_hints(draw, release, module, masks),
        module=module,
        N=draw(evenly(_SAMPLES)),
        S=S,
        T=T,
        num_layers=1 if module.endswith("Layer") else one_of(draw, *layers),
        dim_feedforward=dim_feedforward,
        activation=activation,
        norm=module == "Transformer",
    )
    options = [{"dropout": 0.5}, {"norm_first": True}, {"layer_norm_eps": 1e-2}]
    if not inference and release.shows_dropout:
        options += _DROPOUTS
    options += [{"fast_path": False}] if release.has_fast_path_switch else []
    options += [{"bias": False}] if release.has_layer_bias else []
    if module in ("TransformerEncoder", "TransformerDecoder"):
        options += [{"norm": True}] * 3
    if module == "TransformerEncoder":
        options += [{"enable_nested_tensor": False}, {"mask_check": False}]
    if not inference:
        options += [{"training": True}, {"batch_first": False}, {"batched": False}]
    options += _coincidences(case, "S" if has_encoder else "T", {"S": case.num_heads, "T": case.num_heads})
    return _small_if_long(replace(case, **_without_contradictions(variations(draw, *options), release)))


def _target_and_source(draw, module, masks, inference):
    """T and S; mostly long where a mask may be taken for causal, as a search for that may stop early."""
    nearly = any(mask and mask.pattern == "nearly_causal" and not mask.per_head for mask in masks.values())
    if module.startswith("TransformerDecoder"):
        return lengths(draw, _NEARLY_CAUSAL if nearly else _LENGTHS)
    own = _OF_NATIVE_PATHS if inference and module == "TransformerEncoderLayer" else _SOURCES
    targets, sources = (_NEARLY_CAUSAL, _NEARLY_CAUSAL) if nearly else (_LENGTHS, own)
    return one_of(draw, *targets), one_of(draw, *sources)


def _hints(draw, release, module, masks):
    """The hints that this module has in this release."""
    names = {
        "TransformerEncoderLayer": ("src",) if release.has_causal_hints else (),
        "TransformerEncoder": ("src",) if release.has_causal_hints else (),
        "TransformerDecoderLayer": ("tgt", "memory") if release.has_causal_hints else (),
        "TransformerDecoder": ("tgt", "memory") if release.has_decoder_hints else (),
        "Transformer": ("src", "tgt", "memory") if release.has_transformer_hints else (),
    }[module]
    return {f"{name}_is_causal": hint(draw, masks[f"{name}_mask"]) for name in names}


SIZES_OF_SQUARES = (0, 1, 2, 3, 5, *EDGES)


@st.composite
def square_mask_cases(draw, release):
    """Calls of nn.Transformer.generate_square_subsequent_mask, with and without each argument and default."""
    dtypes = (*release.dtypes, *LOW)
    devices = tuple(device for device in DEVICES if device in ("cpu", "meta", release.device_type))
    default_device = one_of(draw, None, "meta") if since(release, "2.0") else None
    return SquareSubsequentMask(
        dtype=one_of(draw, *dtypes),
        sz=one_of(draw, *SIZES_OF_SQUARES),
        given_dtype=one_of(draw, None, None, *dtypes) if release.has_dtype_of_square_mask else None,
        given_device=one_of(draw, None, None, *devices),
        default_device=default_device,
        in_context=default_device is not None and one_of(draw, False, True),
        of_instance=one_of(draw, False, True),
        after_writing=one_of(draw, False, True),
    )


MODULES = (
    "MultiheadAttention",
    "multi_head_attention_forward",
    "TransformerEncoderLayer",
    "TransformerEncoder",
    "TransformerDecoderLayer",
    "TransformerDecoder",
    "Transformer",
)


def cases_of(release, module, inference=False):
    """Calls of the module or function of that name."""
    if module == SquareSubsequentMask.module:
        return square_mask_cases(release)
    if module == "scaled_dot_product_attention":
        return scaled_dot_product_cases(release, inference)
    if module == "MultiheadAttention":
        return multi_head_cases(release, inference=inference)
    if module == "multi_head_attention_forward":
        return multi_head_cases(release, functional=True)
    return transformer_cases(release, module, inference=inference)


_WITH_PARAMETERS = [module for module in MODULES if module != "multi_head_attention_forward"]
_LAYERS = ("MultiheadAttention", "TransformerEncoderLayer", "TransformerDecoderLayer")


def module_cases(release, modules=_WITH_PARAMETERS, inferring=(False, True)):
    """Calls of any module, or of these, in either way or in this one."""
    return st.one_of([cases_of(release, module, inference) for module in modules for inference in inferring])


def any_cases(release):
    """Calls of any of them."""
    if release.adopted:
        return st.one_of([multi_head_cases(release, inference) for inference in (False, True)])
    kinds = [*[module_cases(release)] * 6, cases_of(release, "multi_head_attention_forward")]
    if release.has_scaled_dot_product_attention:
        kinds += [scaled_dot_product_cases(release)] * 2
    return mixed(*kinds)


def cases_in(release, mode):
    """Calls that can be made in the mode."""
    if mode.family == "causal_upper_left":
        return scaled_dot_product_cases(release).map(lambda case: _causally(case, mode))
    if mode.id == "jagged_batch":
        return _ragged_batches(release, mode)
    if mode.family == NESTED:
        return _nested_cases(release, mode).filter(_has_something)
    kinds = {ANY_MODULE: _modules_in(release, mode), FUNCTIONAL: multi_head_cases(release, functional=True)}
    if release.has_scaled_dot_product_attention:
        kinds[SDPA] = scaled_dot_product_cases(release)

    cases = mixed(*(kinds[kind] for kind in mode.calls if kind in kinds)).map(lambda case: adapted(case, mode))
    if mode.is_forward:
        cases = st.tuples(cases, evenly((False, True, True, True))).map(_perhaps_in_training)
    return cases.filter(lambda case: suits(case, mode))


def adapted(case, mode):
    """The case as the mode can be asked of it."""
    is_allowed = mode.differentiates or case.autograd in _WITHOUT_GRADIENT
    autograd = case.autograd if is_allowed else "no_grad"
    case = replace(case, mode=mode.id, autograd=autograd)
    if drops(case) and not mode.drops:
        case = replace(case, dropout=0.0)
    if mode.is_forward:
        case = _differentiating(case)
    is_empty_under_vmap = mode.family == "vmap" and not _has_something(case)  # its weights have the mask's dtype
    if not mode.converts_masks or is_empty_under_vmap:
        case = replace(case, **{name: replace(mask, dtype=None) for name, mask in masks_of(case).items()})
    if mode.id == "scripted" and hasattr(case, "fast_path"):  # it does not see the switch
        case = replace(case, fast_path=True)
    if mode.id == "batched_gradients" and autograd in AUTOGRAD[-2:] and hasattr(case, "num_layers"):
        case = replace(case, autograd="grad")  # of the nested tensors between layers there are no batches
    if mode.compiles and getattr(case, "num_layers", 1) > 2:
        case = replace(case, num_layers=2)
    return _lowered(case, "float32") if mode.lowers else case


def suits(case, mode):
    """Whether the mode is asked of the case: neither of one that takes too long, nor where nothing is to be seen."""
    if (mode.is_for_small and not _is_small(case)) or (mode.id == "vmap_of_masks" and not masks_of(case)):
        return False
    if not (mode.compiles or mode.is_for_small):
        return True
    return _has_something(case) and bool(not mode.compiles or masks_of(case) or getattr(case, "is_causal", False))


def _modules_in(release, mode):
    """Calls of modules, of which a mode may ask more of some."""
    modules = module_cases(release)
    if mode.compiles:  # stacks are more of the same, and take long, as does the way back, which inference has not
        layers = (module_cases(release, _LAYERS, (inferring,)) for inferring in (False, True, True, True))
        return mixed(*layers, modules)
    if mode.id == "fake":  # where native paths tell sizes of their own
        return mixed(module_cases(release, _LAYERS, (True,)), modules)
    return modules


def _ragged_batches(release, mode):
    """Calls of scaled_dot_product_attention that have samples, seldom with a mask, which the mode cannot have."""
    cases = scaled_dot_product_cases(release).filter(lambda case: case.batch)
    cases = cases.map(lambda case: replace(case, mode=mode.id, kv_heads=None, dropout=0.0))
    return mixed(*[cases.map(_without_mask)] * 7, cases)


# Where the samples end: nowhere, where they like, one at once, all alike.
_ENDS = (None, *(Mask("bool", pattern) for pattern in ("right", "right", "right", "none", "sample", "trailing", "all")))
_ENDS_OF_KEYS = (None, *(Mask("bool", pattern) for pattern in ("right", "right", "right", "none", "slice", "all")))
_PACKED = ("MultiheadAttention", "MultiheadAttention", "TransformerEncoderLayer", "TransformerEncoder")


@st.composite
def _nested_cases(draw, release, mode):
    """Calls whose samples a mode can pack into a nested tensor, rarely with a mask besides, which none takes."""
    modules = (*_PACKED, *[SDPA] * release.has_scaled_dot_product_attention)
    if mode.id == "nested_jagged":  # which no module takes
        modules = (*[SDPA] * 15, *_PACKED)
    if mode.id == BESIDE:
        modules = _PACKED
    module, without = one_of(draw, *modules), one_of(draw, *[True] * 7, False)
    if module != SDPA:
        case, padding = draw(cases_of(release, module, inference=True)), one_of(draw, *_ENDS[mode.id == BESIDE :])
        if module == "MultiheadAttention":
            masks, none = {"key_padding_mask": padding}, {"attn_mask": None, "is_causal": False}
        else:
            masks, none = {"src_key_padding_mask": padding}, {"src_mask": None, "src_is_causal": None}
            if case.activation == "silu":  # which nested tensors do not have before 2.1
                case = replace(case, activation="gelu")
        return replace(case, mode=mode.id, **masks, **none if without else {})
    case = draw(scaled_dot_product_cases(release).filter(lambda case: len(case.batch) < 3))
    padding = None if case.is_causal or not without else one_of(draw, *_ENDS_OF_KEYS)
    mask = padding if without or case.is_causal else Mask("bool", "causal")
    mask_batch = (case.batch[0], *[1] * (len(case.batch) - 1)) if padding else ()
    changes = {"attn_mask": mask, "mask_batch": mask_batch, "broadcast": "L" if padding else ""}
    return replace(case, mode=mode.id, dropout=0.0, **changes)


def _causally(case, mode):
    """The case with a causal mask as the mode aligns it, which can then be a bias."""
    is_hinted = mode.id == "causal_upper_left" or case.L == case.S
    mask = None if is_hinted else Mask("bool", "lower_right")
    return replace(case, mode=mode.id, is_causal=is_hinted, attn_mask=mask, mask_batch=(), broadcast="", dropout=0.0)


def _without_mask(case):
    return replace(case, attn_mask=None, mask_batch=(), broadcast="")


def _differentiating(case):
    """The case with something to differentiate for: forwards that is done in inference, too."""
    if case.autograd not in _WITHOUT_GRADIENT:
        return case
    return _lowered(replace(case, autograd="grad" if case.autograd == "no_grad" else "inputs"), case.dtype)


def _perhaps_in_training(drawn):
    """The case, in training if that is drawn: a native path takes no tangent, and shows nothing but that."""
    case, in_training = drawn
    return replace(case, training=True, dropout=0.0) if in_training and hasattr(case, "training") else case


def _is_small(case):
    """Whether a jacobian of the whole is quick to make."""
    sizes = (getattr(case, name, 1) for name in ("L", "S", "T", "E"))
    return max(sizes) <= 16


def _has_something(case):
    """Whether no size is 0."""
    return 0 not in (getattr(case, name, 1) for name in ("N", "L", "S", "T")) and 0 not in getattr(case, "batch", ())


def low_precision_cases(release, dtype):
    """Calls of any of them in a low precision, more of the function, which costs least."""
    cases = [any_cases(release)] * 2
    if release.has_scaled_dot_product_attention and not release.adopted:
        cases.append(scaled_dot_product_cases(release))
    return mixed(*cases).map(lambda case: _lowered(case, dtype))


def _lowered(case, dtype):
    """The case in this dtype, without an activation whose derivative jumps: rounding could take it across."""
    has_kink = getattr(case, "activation", "") in ("relu", "gelu_tanh") and case.autograd not in UNRECORDED[:-1]
    return replace(case, dtype=dtype, **{"activation": "gelu"} if has_kink else {})


def cases_under(release, law):
    """Calls of which the law speaks."""
    if release.adopted:
        return any_cases(release)
    modules = [
        m for m in law.modules if m != "scaled_dot_product_attention" or release.has_scaled_dot_product_attention
    ]
    cases = st.one_of([cases_of(release, module, inference) for module in modules for inference in (False, True)])
    return cases.map(lambda case: replace(case, dropout=0.0) if drops(case) else case)  # twins may drop differently


def garbage_cases(release, dropout=0.0):
    """Calls with garbage where nobody may look: beside a mask that hides whole keys."""

    def with_garbage(case):
        training = {"training": bool(dropout)} if hasattr(case, "training") else {}
        return release.adapt(replace(case, garbage=True, dropout=dropout, **training))

    return any_cases(release).map(with_garbage)


def nonfinite_cases(release):
    """Calls with NaN or inf where nobody may look, which are only computed: nothing is differentiated."""

    def without_finite(drawn):
        case, nonfinite = drawn
        autograd = case.autograd if case.autograd in _WITHOUT_GRADIENT else "no_grad"
        case = replace(case, garbage=False, nonfinite=nonfinite, autograd=autograd, dropout=0.0)
        return release.adapt(case)

    cases = any_cases(release)
    if not release.adopted:
        cases = mixed(cases, module_cases(release, inferring=(True,)))
    return st.tuples(cases, evenly(("nan", "nan", "inf"))).map(without_finite).filter(nonfinite_positions)


_BIASED = [mode for mode in MODES if mode.family == "causal_upper_left" and mode.is_in()]
_DROPPED = {"dropout": 0.5, "need_weights": True, "average_attn_weights": False}


def shows_dropped_weights(release):
    """Whether what is measured can be asked for the weights of each head under dropout."""
    return release.adopted is None or release.adopted.takes >= _DROPPED.keys()


def dropout_cases(release):
    """Calls of nn.MultiheadAttention in training, with dropout, that return the weights of each head."""
    return multi_head_cases(release).map(lambda case: replace(case, training=True, **_DROPPED))


def all_dropped_cases(release):
    """Calls of the function, with a mask or a causal bias, and of nn.MultiheadAttention that drop every weight."""
    kinds = [multi_head_cases(release).map(lambda case: replace(case, training=True, need_weights=False))]
    if release.has_scaled_dot_product_attention and not release.adopted:
        kinds += [scaled_dot_product_cases(release), *(cases_in(release, mode) for mode in _BIASED)]
    return st.one_of(kinds).map(lambda case: replace(case, dropout=1.0))


def nan_query_cases(release, module):
    """Calls of scaled_dot_product_attention, or of nn.MultiheadAttention with queries of their own, one of them NaN."""
    own = {} if module == "scaled_dot_product_attention" else {"attention": "distinct"}
    changes = {"nan_query": True, "garbage": False, **own}

    def with_nan(case):
        return replace(case, autograd=case.autograd if case.autograd in UNRECORDED else "no_grad", **changes)

    return cases_of(release, module, inference=True).map(with_nan)
