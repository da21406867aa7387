"""What is known upstream: when releases came out, when threads were opened, and which release users say broke what.

Looked up by hand (the queries are in docs/upstream.md). A day that could not be established is left out.
"""

RELEASED = {
    "2.1": "2023-10-04",
    "2.2": "2024-01-30",
    "2.3": "2024-04-24",
    "2.4": "2024-07-24",
    "2.5": "2024-10-17",
    "2.6": "2025-01-30",
    "2.7": "2025-04-23",
    "2.8": "2025-08-06",
    "2.9": "2025-10-15",
    "2.10": "2026-01-21",
    "2.12": "2026-05-13",
}

# Threads of pytorch/pytorch. Of a regression that users reported: regression is the release, what it was, seen is what
# the run on the day says of it.
THREADS = {
    "41508": {"opened": "2020-07-16"},
    "92554": {"opened": "2023-01-18"},
    "95702": {
        "opened": "2023-02-28",
        "regression": "2.0.0",
        "what": "a warning that masks differ in type, where they do not",
        "seen": "Reported, in the table above.",
    },
    "96941": {
        "opened": "2023-03-16",
        "regression": "2.0.0",
        "what": "is_causal=True without a mask has no effect",
        "seen": "Reported, as `native-hint-without-mask`.",
    },
    "97111": {"opened": "2023-03-19"},
    "97128": {"opened": "2023-03-20"},
    "97409": {
        "opened": "2023-03-23",
        "regression": "2.0.0",
        "what": "a mask for each head raises in eval",
        "seen": (
            "Behind the warning: `MultiHead(L=2, S=2, num_heads=2, attention='self', attn_mask=Mask(per_head=True))`"
            " fails on 2.0.0 and not on 2.0.1, but another case was the least."
        ),
    },
    "97605": {
        "opened": "2023-03-25",
        "regression": "2.0.0",
        "what": "a mask for each head and a padding mask work in train, and not in eval",
        "seen": "Behind the warning, as the one before.",
    },
    "97532": {"opened": "2023-03-24"},
    "100709": {
        "opened": "2023-05-05",
        "regression": "2.0.0",
        "what": "is_causal=True beside masks raises",
        "seen": "Reported, as `hint-excludes-mask` and in the table above.",
    },
    "106630": {
        "opened": "2023-08",
        "regression": "2.0.0",
        "what": "nn.TransformerDecoder gives another result in eval under no_grad",
        "seen": (
            "As #107084, `native-mha-float-mask`: behind the warning on 2.0.0; on 2.0.1 not the least case of any test,"
            " though calls of an ordinary run show it."
        ),
    },
    "107084": {"opened": "2023-08-12"},
    "115472": {"opened": "2023-12-09"},
    "118628": {"opened": "2024-01-30"},
    "127055": {
        "opened": "2024-05-24",
        "regression": "2.3.1",
        "what": "NaN for queries that see only the last keys of a long sequence",
        "seen": "Behind louder ones: calls of an ordinary run show it, but another case was the least of each test.",
    },
    "128816": {"opened": "2024-06-17"},
    "131254": {"opened": "2024-07-19"},
    "132136": {"opened": "2024-07-30"},
    "132613": {"opened": "2024-08-04"},
    "141128": {
        "opened": "2024-11-20",
        "regression": "2.5.1",
        "what": "scaled_dot_product_attention gives 0 for a query that is NaN",
        "seen": "Not in this run, which had no NaN; there are calls for it now, as `flash-nan-query-zero` tells.",
    },
    "178677": {"opened": "2026-03-28"},
    "184330": {
        "opened": "2026-05-19",
        "regression": "2.12.1",
        "what": "scaled_dot_product_attention gives 0 where head_dim is 0",
        "seen": "Not seen: head_dim is at least 1.",
    },
    "187801": {"opened": "2026-06-21"},
}

# {release: {what reports say: why}}, where no entry of the ledger tells.
EXPLANATIONS = {
    "2.0.0": {
        "Support for mismatched key_padding_mask": (
            "masks of the same type are said to differ: [#95702](https://github.com/pytorch/pytorch/issues/95702),"
            " 2023-02-28; gone in 2.0.1"
        ),
        "Only allow causal mask or attn_mask": "as `hint-excludes-mask`, in a decoder; gone in 2.0.1",
        "an exception whose message names the mask": "2.0.0 takes wrong masks and hints that 2.0.1 refuses or names",
        "expected an error that names it": "2.0.0 takes wrong masks and hints that 2.0.1 refuses or names",
    },
}
