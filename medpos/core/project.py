"""Find the files that come with the package: bundles, notebooks and the license."""

from importlib import resources
from pathlib import Path


def project_folder() -> Path:
    """Return the folder of ``bundles/``, ``notebooks/`` and ``LICENSE``.

    An installed package has them in ``_project``, inside; in a clone they are beside the package.
    """
    package = Path(str(resources.files("medpos")))
    inside = package / "_project"
    return inside if inside.is_dir() else package.parent
