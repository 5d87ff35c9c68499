"""Convert raw downloads to one uniform folder with a dataset.json; see README.md here."""

import medpos as medpos  # answers imports of this package's modules under their old names
