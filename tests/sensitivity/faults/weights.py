"""Faults in returned weights, and in the keys that add_bias_kv and add_zero_attn append."""

from dataclasses import replace

from tests.sensitivity.injection import Fault, edit_attention, has_mask, masked, native_attention, sdpa
from tests.sensitivity.literals import ATTENTION, CROSS, HIDING, PADDING, PER_HEAD, SDPA, inferring, weighing

_SOFTMAX = "attn_output_weights = softmax(attn_output_weights, dim=-1)"
_MEAN = "attn_output_weights.mean(dim=1)"
_DROPOUT = "attn_output_weights = dropout(attn_output_weights, p=dropout_p)"
_VIEW = "attn_output_weights = attn_output_weights.view(bsz, num_heads, tgt_len, src_len)"
_WEIGHING = weighing(replace(CROSS, attn_mask=HIDING))
_EACH_HEAD = weighing(replace(CROSS, attn_mask=PER_HEAD), average=False)
_DROPPING = replace(_EACH_HEAD, training=True, dropout=0.5, L=8, S=9)


def _of_results(change):
    """An `after` that replaces the weights with change(weights, call)."""

    def after(results, call):
        output, weights = results
        return output, None if weights is None else change(weights, call)

    return after


def _drops(call):
    return call.dropout_p != 0 and call.training is not False


def _where_appended(id, title, option, mask, new, shows):
    """A fault in a mask, inserted after the code that appends the key of this option."""
    condition, place = {
        "add_bias_kv": ("bias_k is not None", "    #\n    # reshape q, k, v"),
        "add_zero_attn": ("add_zero_attn", "    # update source sequence length"),
    }[option]
    statement = f"    if {condition} and {mask} is not None:\n        {mask} = {new}\n"
    return Fault(id, title, edit_attention(place, statement + place), shows)


_ZERO = replace(CROSS, add_zero_attn=True)
_BIASED = replace(CROSS, add_bias_kv=True)

FAULTS = (
    Fault(
        "average-of-the-first-head",
        "averaged weights are those of the first head",
        edit_attention(_MEAN, "attn_output_weights[:, 0]"),
        _WEIGHING,
    ),
    Fault(
        "average-without-the-last-head",
        "the last of several heads does not count in the average",
        edit_attention(_MEAN, "attn_output_weights[:, : max(num_heads - 1, 1)].mean(dim=1)"),
        _WEIGHING,
    ),
    Fault(
        "average-as-sum",
        "averaged weights are the sum over heads",
        edit_attention(_MEAN, "attn_output_weights.sum(dim=1)"),
        _WEIGHING,
    ),
    Fault(
        "average-as-maximum",
        "averaged weights are the largest over heads",
        edit_attention(_MEAN, "attn_output_weights.amax(dim=1)"),
        _WEIGHING,
    ),
    Fault(
        "average-never",
        "weights are not averaged in training",
        edit_attention("if average_attn_weights:", "if average_attn_weights and not training:"),
        replace(_WEIGHING, training=True),
    ),
    Fault(
        "weights-before-masking",
        "returned weights are computed before masking",
        edit_attention(
            _VIEW,
            "attn_output_weights = softmax(torch.bmm(q, q.mT) * 0 + 1.0, dim=-1).view(bsz, num_heads, tgt_len, src_len) if tgt_len == src_len else "
            + _VIEW.partition("= ")[2],
        ),
        weighing(replace(ATTENTION, attn_mask=HIDING)),
    ),
    Fault(
        "weights-before-softmax",
        "the logarithms of the weights are returned",
        edit_attention(_VIEW, "attn_output_weights = attn_output_weights.log().view(bsz, num_heads, tgt_len, src_len)"),
        _WEIGHING,
    ),
    Fault(
        "weights-transposed",
        "square returned weights are transposed",
        edit_attention(
            _VIEW,
            _VIEW
            + "\n        attn_output_weights = attn_output_weights.mT if tgt_len == src_len else attn_output_weights",
        ),
        weighing(replace(ATTENTION, attn_mask=HIDING)),
    ),
    Fault(
        "weights-detached", "returned weights have no gradient", edit_attention(_VIEW, _VIEW + ".detach()"), _WEIGHING
    ),
    Fault(
        "weights-heads-first",
        "weights of each head are returned as if heads came before samples",
        edit_attention(
            _VIEW, "attn_output_weights = attn_output_weights.view(num_heads, bsz, tgt_len, src_len).transpose(0, 1)"
        ),
        _EACH_HEAD,
    ),
    Fault(
        "weights-keep-the-batch",
        "weights have a batch dimension though the input has none",
        edit_attention("attn_output_weights = attn_output_weights.squeeze(0)", "pass"),
        replace(_WEIGHING, N=1, batched=False),
    ),
    Fault(
        "weights-of-the-hidden-tiny",
        "a hidden key's returned weight is tiny, not 0",
        edit_attention(_VIEW, _VIEW + " + 1e-30"),
        _WEIGHING,
    ),
    Fault(
        "weights-normalised-over-queries",
        "the softmax runs over the queries",
        edit_attention(_SOFTMAX, _SOFTMAX.replace("dim=-1", "dim=-2")),
        _WEIGHING,
    ),
    Fault(
        "dropout-revives",
        "dropout gives hidden keys a weight",
        edit_attention(
            _DROPOUT,
            "attn_output_weights = dropout(attn_output_weights + (attn_output_weights == 0) * 1e-3, p=dropout_p)",
        ),
        _DROPPING,
    ),
    Fault(
        "dropout-not-scaled",
        "kept weights are not scaled up",
        edit_attention(_DROPOUT, _DROPOUT + " * (1 - dropout_p)", when=_drops),
        _DROPPING,
    ),
    Fault(
        "dropout-unreported",
        "weights are returned as before dropout",
        edit_attention(
            "attn_output = torch.bmm(attn_output_weights, v)",
            "attn_output = torch.bmm(dropout(attn_output_weights, p=dropout_p) if training else attn_output_weights, v)",
            when=_drops,
        ),
        _DROPPING,
    ),
    Fault(
        "dropout-of-all-beside-a-mask",
        "SDPA with a mask divides 0 by 0 if every weight is dropped",
        sdpa(after=lambda result, call: result * float("nan"), when=lambda call: masked(call) and call.dropout_p == 1),
        replace(SDPA, attn_mask=HIDING, dropout=1.0),
    ),
    Fault(
        "dropout-in-eval",
        "weights are dropped in eval as well",
        edit_attention("if not training:\n        dropout_p = 0.0", "pass"),
        replace(_DROPPING, training=False),
    ),
    Fault(
        "native-weights-of-the-last-head",
        "the native attention returns the last head's weights as their average",
        native_attention(
            before=lambda call: setattr(call, "average_attn_weights", False),
            after=_of_results(lambda weights, call: weights[:, -1]),
            when=lambda call: call.need_weights and call.average_attn_weights,
        ),
        inferring(weighing(replace(ATTENTION, attn_mask=HIDING))),
    ),
    Fault(
        "native-weights-of-padding",
        "the native attention returns 1e-8 more for each hidden key",
        native_attention(
            after=_of_results(lambda weights, call: weights + 1e-8),
            when=lambda call: bool(call.need_weights) and has_mask(call),
        ),
        inferring(weighing(replace(ATTENTION, key_padding_mask=PADDING))),
    ),
    _where_appended(
        "zero-key-hidden-by-mask",
        "a mask hides the key that add_zero_attn appends",
        "add_zero_attn",
        "attn_mask",
        "torch.cat([attn_mask[..., :-1], attn_mask.amin(-1, True)], -1)",
        replace(_ZERO, attn_mask=HIDING),
    ),
    _where_appended(
        "zero-key-hidden-by-padding",
        "padding of the last key hides the key that add_zero_attn appends",
        "add_zero_attn",
        "key_padding_mask",
        "torch.cat([key_padding_mask[..., :-1], key_padding_mask[..., -2:-1]], -1)",
        replace(_ZERO, key_padding_mask=PADDING),
    ),
    _where_appended(
        "bias-key-first",
        "masks take the key of add_bias_kv for the first",
        "add_bias_kv",
        "attn_mask",
        "attn_mask.roll(1, -1)",
        replace(_BIASED, attn_mask=HIDING),
    ),
    _where_appended(
        "bias-key-padding-first",
        "padding takes the key of add_bias_kv for the first",
        "add_bias_kv",
        "key_padding_mask",
        "key_padding_mask.roll(1, -1)",
        replace(_BIASED, key_padding_mask=PADDING),
    ),
    Fault(
        "zero-key-not-zero",
        "the value that add_zero_attn appends is 1",
        edit_attention("[v, torch.zeros(", "[v, torch.ones("),
        _ZERO,
    ),
)
