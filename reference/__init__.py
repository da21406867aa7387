"""The specification of attention with masks, written in NumPy alone."""
