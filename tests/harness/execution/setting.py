"""Where calls are made, and of what: what a report needs to tell how to make one again."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """device: any torch device string. imported: the module that brings the device along, if any.

    subject: "package.module:factory" of what stands in the place of nn.MultiheadAttention, if anything.
    """

    device: str = "cpu"
    imported: str | None = None
    subject: str | None = None

    @property
    def attention(self):
        """The name of what makes the module."""
        return self.subject.replace(":", ".") if self.subject else "torch.nn.MultiheadAttention"

    @property
    def imports(self):
        """The modules to import beyond torch."""
        return [name for name in (self.imported, self.subject and self.subject.partition(":")[0]) if name]

    @property
    def options(self):
        """What follows a case on the command line."""
        device = [self.device] if self.device != "cpu" else []
        imported = ["--import", self.imported] if self.imported else []
        return [*device, *imported, *(["--subject", self.subject] if self.subject else [])]


CPU = Setting()

ON_CPU, ON_CUDA = ("cpu",), ("cuda",)
ON_BOTH = (*ON_CPU, *ON_CUDA)
