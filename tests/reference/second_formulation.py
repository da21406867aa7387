"""A second formulation of attention with masks: numbers in nested lists, and loops over batch, head, query and key.

Hidden keys are left out of the list of keys; they are never removed by multiplication with zero.
A module is any object with the attribute names of the reference; an activation is given by its name.
"""

import math


def dot(x, y):
    return math.fsum(a * b for a, b in zip(x, y, strict=True))


def plus(x, y):
    return [a + b for a, b in zip(x, y, strict=True)]


def linear(x, weight, bias):
    return [dot(row, x) + (bias[i] if bias else 0.0) for i, row in enumerate(weight)]


def power(x):
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def softmax(scores):
    """{key: score} -> {key: weight}; a weight is 1 / sum(exp(other score - own score))."""
    return {j: 1 / math.fsum(power(other - mine) for other in scores.values()) for j, mine in scores.items()}


def look(query, keys, values, biases, scale):
    """The context of one query, and its weight for every key; the weight is 0 if the bias is -inf."""
    visible = [j for j, bias in enumerate(biases) if bias != -math.inf]
    weights = softmax({j: scale * dot(query, keys[j]) + biases[j] for j in visible})
    context = [math.fsum(weight * values[j][d] for j, weight in weights.items()) for d in range(len(values[0]))]
    return context, [weights.get(j, 0.0) for j in range(len(keys))]


def bias_at(mask, place, true_hides):
    """The bias of a mask at place (batch, head, query, key); missing dimensions and dimensions of 1 are broadcast."""
    if mask is None:
        return 0.0
    for index in place[-depth(mask) :]:
        mask = mask[index if len(mask) > 1 else 0]
    if isinstance(mask, bool):
        return -math.inf if mask == true_hides else 0.0
    return mask


def depth(mask):
    return 1 + depth(mask[0]) if isinstance(mask, list) else 0


def scaled_dot_product_attention(query, key, value, attn_mask=None, is_causal=False, scale=None, enable_gqa=False):
    """query [N][H][L][D], key [N][H or fewer][S][D], value [N][H or fewer][S][Dv] -> [N][H][L][Dv]."""
    output = [[[] for _ in heads] for heads in query]
    for n, heads in enumerate(query):
        for h, queries in enumerate(heads):
            shared = h * len(key[n]) // len(heads) if enable_gqa else h
            keys, values = key[n][shared], value[n][shared]
            for i, q in enumerate(queries):
                biases = [bias_at(attn_mask, (n, h, i, j), true_hides=False) for j in range(len(keys))]
                if is_causal:
                    biases = [0.0 if j <= i else -math.inf for j in range(len(keys))]
                factor = len(q) ** -0.5 if scale is None else scale
                output[n][h].append(look(q, keys, values, biases, factor)[0])
    return output


def multi_head_attention(
    module, query, key, value, attn_mask=None, key_padding_mask=None, static_k=None, static_v=None
):
    """query [N][L][E], key [N][S][kdim], value [N][S][vdim] -> output [N][L][E], weights [N][H][L][S + appended]."""
    H = module.num_heads
    D = len(module.q_weight) // H
    output, all_weights = [], []
    for n in range(len(query)):
        contexts = [[] for _ in query[n]]
        all_weights.append([])
        for h in range(H):
            keys, values, appended = keys_of_head(module, n, h, D, key, value, static_k, static_v)
            all_weights[n].append([])
            for i, x in enumerate(query[n]):
                q = linear(x, module.q_weight, module.q_bias)[h * D : (h + 1) * D]
                biases = [
                    slice_bias(attn_mask, n * H + h, i, j) + bias_at(key_padding_mask, (n, j), true_hides=True)
                    for j in range(len(keys) - appended)
                ]
                context, weights = look(q, keys, values, biases + [0.0] * appended, 1 / math.sqrt(D))
                contexts[i] += context
                all_weights[n][h].append(weights)
        output.append([linear(context, module.out_weight, module.out_bias) for context in contexts])
    return output, all_weights


def slice_bias(attn_mask, which, i, j):
    per_head = attn_mask is not None and depth(attn_mask) == 3
    return bias_at(attn_mask[which] if per_head else attn_mask, (i, j), true_hides=True)


def keys_of_head(module, n, h, D, key, value, static_k, static_v):
    """(keys, values, number of appended keys) of head h in sample n."""
    own = slice(h * D, (h + 1) * D)
    keys = [linear(x, module.k_weight, module.k_bias)[own] for x in key[n]]
    values = [linear(x, module.v_weight, module.v_bias)[own] for x in value[n]]
    if static_k is not None:
        keys = list(static_k[n * module.num_heads + h])
    if static_v is not None:
        values = list(static_v[n * module.num_heads + h])
    given = len(keys)
    if module.bias_k is not None:
        keys.append(module.bias_k[own])
        values.append(module.bias_v[own])
    if module.add_zero_attn:
        keys.append([0.0] * D)
        values.append([0.0] * D)
    return keys, values, len(keys) - given


def layer_norm(module, x):
    mean = math.fsum(x) / len(x)
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in x) / len(x) + module.eps)
    y = [(v - mean) / deviation * weight for v, weight in zip(x, module.weight, strict=True)]
    return plus(y, module.bias) if module.bias else y


def activate(name, x):
    if name == "relu":
        return max(x, 0.0)
    if name == "gelu":
        return x / 2 * math.erfc(-x / math.sqrt(2))
    return x / (1 + math.exp(-x if name == "silu" else -math.sqrt(8 / math.pi) * (x + 0.044715 * x**3)))


def feed_forward(module, x):
    inner = [activate(module.activation, v) for v in linear(x, module.weight1, module.bias1)]
    return linear(inner, module.weight2, module.bias2)


def everywhere(function, module, sequences):
    """Apply function(module, x) to every element of every sequence."""
    return [[function(module, x) for x in sequence] for sequence in sequences]


def add(x, y):
    return [[plus(a, b) for a, b in zip(xs, ys, strict=True)] for xs, ys in zip(x, y, strict=True)]


def encoder_layer(module, src, src_mask=None, src_key_padding_mask=None):
    def attend(x):
        return multi_head_attention(module.self_attn, x, x, x, src_mask, src_key_padding_mask)[0]

    if module.norm_first:
        middle = add(src, attend(everywhere(layer_norm, module.norm1, src)))
        return add(middle, everywhere(feed_forward, module.feed_forward, everywhere(layer_norm, module.norm2, middle)))
    middle = everywhere(layer_norm, module.norm1, add(src, attend(src)))
    wide = add(middle, everywhere(feed_forward, module.feed_forward, middle))
    return everywhere(layer_norm, module.norm2, wide)


def decoder_layer(
    module,
    tgt,
    memory,
    tgt_mask=None,
    memory_mask=None,
    tgt_key_padding_mask=None,
    memory_key_padding_mask=None,
):
    def attend(x):
        return multi_head_attention(module.self_attn, x, x, x, tgt_mask, tgt_key_padding_mask)[0]

    def remember(x):
        return multi_head_attention(module.multihead_attn, x, memory, memory, memory_mask, memory_key_padding_mask)[0]

    if module.norm_first:
        first = add(tgt, attend(everywhere(layer_norm, module.norm1, tgt)))
        second = add(first, remember(everywhere(layer_norm, module.norm2, first)))
        return add(second, everywhere(feed_forward, module.feed_forward, everywhere(layer_norm, module.norm3, second)))
    first = everywhere(layer_norm, module.norm1, add(tgt, attend(tgt)))
    second = everywhere(layer_norm, module.norm2, add(first, remember(first)))
    wide = add(second, everywhere(feed_forward, module.feed_forward, second))
    return everywhere(layer_norm, module.norm3, wide)


def encoder(module, src, src_mask=None, src_key_padding_mask=None):
    for layer in module.layers:
        src = encoder_layer(layer, src, src_mask, src_key_padding_mask)
    return everywhere(layer_norm, module.norm, src) if module.norm else src


def decoder(module, tgt, memory, **masks):
    for layer in module.layers:
        tgt = decoder_layer(layer, tgt, memory, **masks)
    return everywhere(layer_norm, module.norm, tgt) if module.norm else tgt


def transformer(module, src, tgt, src_mask=None, src_key_padding_mask=None, **masks):
    memory = encoder(module.encoder, src, src_mask, src_key_padding_mask)
    return decoder(module.decoder, tgt, memory, **masks)
