"""Find the bundles that come with the package."""

import sys
from pathlib import Path

# In a clone they stand beside the package; an installed package has them where pip puts data files.
_CLONED, _INSTALLED = Path(__file__).resolve().parents[2] / "bundles", Path(sys.prefix) / "share/medpos/bundles"
BUNDLES = _CLONED if (_CLONED / "src").is_dir() else _INSTALLED
