"""Change grey values: degrade, standardize and distort."""
