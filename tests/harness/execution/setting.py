"""The device and the implementation of a call: the information that a report needs to reproduce it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """The device of a call and the implementation that it calls."""

    device: str = "cpu"  # any device string of torch
    imported: str | None = None  # the module that registers the device with torch, if any
    subject: str | None = None  # "package.module:factory" of the implementation in place of nn.MultiheadAttention

    @property
    def attention(self) -> str:
        """The dotted name of the class or factory of the module."""
        return self.subject.replace(":", ".") if self.subject else "torch.nn.MultiheadAttention"

    @property
    def imports(self) -> list[str]:
        """The modules to import beyond torch."""
        return [name for name in (self.imported, self.subject and self.subject.partition(":")[0]) if name]

    @property
    def options(self) -> list[str]:
        """The arguments that follow a case on the command line."""
        device = [self.device] if self.device != "cpu" else []
        imported = ["--import", self.imported] if self.imported else []
        return [*device, *imported, *(["--subject", self.subject] if self.subject else [])]


CPU = Setting()

ON_CPU, ON_CUDA = ("cpu",), ("cuda",)
ON_BOTH = (*ON_CPU, *ON_CUDA)
