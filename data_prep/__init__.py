"""Raw downloads to one uniform folder with a dataset.json; see README.md here."""
