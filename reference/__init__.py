"""What attention with masks must compute: a specification in NumPy, and in nothing else."""
