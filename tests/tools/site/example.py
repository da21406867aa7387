"""Natural code for an entry: a few lines as a user would write them, and the same with a remedy. Both are tested."""

from dataclasses import dataclass
from difflib import unified_diff
from textwrap import dedent

# The lines that the page shows once, above all examples.
IMPORTS = "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n"


@dataclass(frozen=True)
class Example:
    """Code that ends with a print, or raises; on an affected release it shows the entry."""

    code: str
    comes: str  # the text that an affected release prints, or its error; empty if no run here can tell, as on CUDA
    should: str  # the text that other releases print, and affected ones with the remedy
    remedy: tuple[tuple[str, str], ...] = ()  # (part of the code, its replacement), ...
    helps: str = ">=1.13"  # releases in which the remedy gives `should`, as a version specifier
    needs: str = ">=1.13"  # releases that can run the code
    with_remedy: str = ""  # the text that affected releases print with the remedy, if not `should`

    def __post_init__(self):
        object.__setattr__(self, "code", dedent(self.code).strip())
        missing = [old for old, _ in self.remedy if old not in self.code]
        if missing:
            raise ValueError(f"the code lacks {missing[0]!r}")

    @property
    def outcome(self) -> str:
        """The text that an affected release prints, or its error, as a page shows it."""
        return self.comes.removesuffix(": ")

    @property
    def remedied(self) -> str:
        """The code with the remedy; empty if there is none."""
        code = self.code
        for old, new in self.remedy:
            code = code.replace(old, new)
        return code if self.remedy else ""

    @property
    def diff(self) -> str:
        """The lines that the remedy changes."""
        lines = list(unified_diff(self.code.splitlines(), self.remedied.splitlines(), n=0, lineterm=""))[2:]
        return "\n".join(f"{line[0]} {line[1:]}" for line in lines if not line.startswith("@@"))
