"""Change gray values: degrade, standardize and distort."""
