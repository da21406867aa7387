"""What a comparison leaves out: every reason has a name, and is counted, in elements of results or in gradients.

A call has one gradient for each argument that it differentiates for, and one result, or two. Where a call raises,
nobody knows of how many elements its result would have been.
"""

COMPARED = "compared"

RAISED = "raised"  # the error is compared instead
REFUSED = "refused"  # a documented refusal is, or that there is one
NOT_MADE = "not made"  # it might have ended the process, or the subject declined
GARBAGE = "garbage query"  # rows that rounding decides, or that the mode drops: only NaN, inf or finite is compared
MEMORY = "undefined memory"  # that a kernel reads and nobody has written
LOW_SUMS = "sum in bfloat16"  # is cut off, by an order of summation that nobody documents
MAY_BE_NAN = "NaN may spread"  # from what lies next in memory
FORGOTTEN = "NaN may be forgotten"
RACE = "differs from run to run"
JACOBIAN = "NaN in a Jacobian"
STEEP = "derivative beyond digits"  # it is so large that nothing is known of it: garbage that a deviation lets be seen
TWIN = "twin deviates"  # two calls that should agree are each compared with what the ledger predicts, not to each other

REASONS = (RAISED, REFUSED, NOT_MADE, GARBAGE, MEMORY, LOW_SUMS, MAY_BE_NAN, FORGOTTEN, RACE, JACOBIAN, STEEP, TWIN)
UNITS = ("elements", "gradients", "results")
