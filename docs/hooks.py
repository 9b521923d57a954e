"""What mkdocs does beside its plugins: the examples in the help of a command are blocks of code."""

import re
from typing import Any

from markdown import Extension, Markdown
from markdown.preprocessors import Preprocessor

EXAMPLE = re.compile(r"^Example:\n((?:  .+\n)+)", re.MULTILINE)


class Examples(Preprocessor):
    def run(self, lines: list[str]) -> list[str]:
        return EXAMPLE.sub(r"Example:\n\n```sh\n\1```\n", "\n".join(lines)).splitlines()


class ExamplesExtension(Extension):
    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 - Markdown's own name
        md.preprocessors.register(Examples(md), "examples", 90)  # behind mkdocs-click (100), before fences (25)


def on_config(config: Any) -> Any:
    config.markdown_extensions.append(ExamplesExtension())
    return config
