"""Show Sphinx roles of docstrings, such as ``:class:`Label```, as code: Markdown doesn't know them."""

import re

import griffe

ROLE = re.compile(r":(?:class|func|mod|meth|data|attr):`~?([^`]+)`")


class Roles(griffe.Extension):
    """Rewrite the docstring of every object while it is read."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Rewrite the roles of one docstring."""
        if obj.docstring:
            obj.docstring.value = ROLE.sub(r"`\1`", obj.docstring.value)
