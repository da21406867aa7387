"""All faults: CLASSES by class, FAULTS by id."""

from tests.sensitivity.faults import (
    broadcasting,
    causality,
    circumstances,
    combination,
    distributed,
    dropping,
    errors,
    everyday,
    flex,
    forms,
    gradients,
    layouts,
    meeting,
    memory,
    parts,
    plumbing,
    polarity,
    rare,
    remaining,
    tensors,
    values,
    ways,
    weights,
)

CLASSES = {
    module.__name__.rpartition(".")[2]: module.FAULTS
    for module in (
        polarity,
        combination,
        broadcasting,
        causality,
        values,
        layouts,
        weights,
        memory,
        plumbing,
        gradients,
        errors,
        rare,
        ways,
        circumstances,
        dropping,
        parts,
        flex,
        forms,
        meeting,
        remaining,
        distributed,
        tensors,
        everyday,
    )
}
FAULTS = {fault.id: fault for faults in CLASSES.values() for fault in faults}
