"""The reasons for leaving elements, gradients or whole results out of a comparison. Each reason is counted.

A call has one or two results, and one gradient for each tensor that requires one. A call without a result, for example
after an error, counts as one result: its number of elements is unknown.
"""

COMPARED = "compared"

RAISED = "raised"  # the call raises: the error is compared instead
REFUSED = "refused"  # a documented refusal is expected: the error is compared instead
NOT_MADE = "not made"  # the call was skipped because it may crash the process, or the subject declined it
# Rows that are decided by rounding, or dropped by the mode: only their class (NaN, inf or finite) is compared.
GARBAGE = "garbage query"
MEMORY = "undefined memory"  # a kernel reads uninitialised memory
LOW_SUMS = "sum in bfloat16"  # a kernel rounds partial sums, in an undocumented order
MAY_BE_NAN = "NaN may spread"  # a kernel may spread NaN from neighbouring or hidden positions
FORGOTTEN = "NaN may be forgotten"  # a kernel may lose a NaN
SECOND = "second derivative"  # of a NaN, or not known (SecondOrder.is_known)
RACE = "differs from run to run"
JACOBIAN = "NaN in a Jacobian"  # torch.func.jacrev multiplies rows of NaN by 0
STEEP = "derivative beyond digits"  # too large for the complex step, since a deviation makes garbage visible
TWIN = "twin deviates"  # a call of a law deviates: each call is compared with its prediction, not with the other

REASONS = (
    RAISED,
    REFUSED,
    NOT_MADE,
    GARBAGE,
    MEMORY,
    LOW_SUMS,
    MAY_BE_NAN,
    FORGOTTEN,
    RACE,
    JACOBIAN,
    STEEP,
    SECOND,
    TWIN,
)
UNITS = ("elements", "gradients", "results")
