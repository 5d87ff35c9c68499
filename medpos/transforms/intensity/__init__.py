"""Change intensities: degrade, standardize and distort."""
