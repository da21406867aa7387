"""Facts from upstream, for docs/history.md: release days, days of threads, and regressions that users reported.

They were looked up by hand; docs/upstream.md lists the queries. Unknown days are left out.
"""

# {minor release: day}
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

# {number of a thread of pytorch/pytorch: facts}. A regression that users reported has "regression" (the release),
# "what" (the regression, in words) and "seen" (the answer of the run that judged the release on its day).
THREADS = {
    "41508": {"opened": "2020-07-16"},
    "92554": {"opened": "2023-01-18"},
    "95702": {
        "opened": "2023-02-28",
        "regression": "2.0.0",
        "what": "a warning that masks differ in type, although they do not",
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
            "Hidden by the warning:"
            " `MultiHead(L=2, S=2, num_heads=2, attention='self', attn_mask=Mask(per_head=True))`"
            " fails on 2.0.0 and not on 2.0.1, but another case was minimal."
        ),
    },
    "97605": {
        "opened": "2023-03-25",
        "regression": "2.0.0",
        "what": "a mask for each head and a padding mask work in train, and not in eval",
        "seen": "Hidden by the warning, as #97409.",
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
            "As #107084, `native-mha-float-mask`: hidden by the warning on 2.0.0. On 2.0.1 calls of an ordinary run"
            " show it, but no test has it as its minimal case."
        ),
    },
    "107084": {"opened": "2023-08-12"},
    "115472": {"opened": "2023-12-09"},
    "118628": {"opened": "2024-01-30"},
    "127055": {
        "opened": "2024-05-24",
        "regression": "2.3.1",
        "what": "NaN for queries that see only the last keys of a long sequence",
        "seen": "Hidden by other changes: calls of an ordinary run show it, but each test has another minimal case.",
    },
    "128816": {"opened": "2024-06-17"},
    "131254": {"opened": "2024-07-19"},
    "132136": {"opened": "2024-07-30"},
    "132613": {"opened": "2024-08-04"},
    "141128": {
        "opened": "2024-11-20",
        "regression": "2.5.1",
        "what": "scaled_dot_product_attention gives 0 for a query that is NaN",
        "seen": "Not seen: this run had no inputs with NaN. Later runs have, and show it as `flash-nan-query-zero`.",
    },
    "178677": {"opened": "2026-03-28"},
    "184330": {
        "opened": "2026-05-19",
        "regression": "2.12.1",
        "what": "scaled_dot_product_attention gives 0 if head_dim is 0",
        "seen": "Not seen: in the suite head_dim is at least 1.",
    },
    "187801": {"opened": "2026-06-21"},
}

# {release: {a part of the title of a report: explanation}}, for reports that no entry of the ledgers explains.
EXPLANATIONS = {
    "2.0.0": {
        "Support for mismatched key_padding_mask": (
            "a warning says that masks of the same type differ:"
            " [#95702](https://github.com/pytorch/pytorch/issues/95702), 2023-02-28; gone in 2.0.1"
        ),
        "Only allow causal mask or attn_mask": "as `hint-excludes-mask`, in a decoder; gone in 2.0.1",
        "an exception whose message names the mask": "2.0.0 takes wrong masks and hints that 2.0.1 refuses or names",
        "expected an error that names it": "2.0.0 takes wrong masks and hints that 2.0.1 refuses or names",
    },
}
