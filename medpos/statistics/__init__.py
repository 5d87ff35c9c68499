"""Compare models in pairs, bound their differences, and decide on a study's criteria."""
