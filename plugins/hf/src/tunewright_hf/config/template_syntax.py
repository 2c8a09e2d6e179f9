"""The syntax of chat templates: Jinja with the tags that transformers adds. Needs jinja2."""

from __future__ import annotations

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser


class _Generation(jinja2.ext.Extension):
    """`{% generation %}`, which marks the assistant's tokens."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own way to declare them

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        """Return what stands between the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def check(text: str) -> None:
    """Parse a template.

    Raises:
        jinja2.TemplateSyntaxError: it cannot be parsed.
    """
    environment = jinja2.Environment(extensions=[_Generation, jinja2.ext.loopcontrols], autoescape=False)  # noqa: S701 - no HTML
    # Compiling finds unknown filters and tests, too.
    environment.filters.setdefault("tojson", str)
    environment.from_string(text)
