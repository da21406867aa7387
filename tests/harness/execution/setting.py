"""The device and the implementation of a call: the information that a report needs to reproduce it."""

from dataclasses import dataclass

# The modules and functions of torch whose place an implementation can take (--subject), the default first.
REPLACEABLE = ("MultiheadAttention", "TransformerEncoderLayer", "scaled_dot_product_attention")


@dataclass(frozen=True)
class Setting:
    """The device of a call and the implementation that it calls."""

    device: str = "cpu"  # any device string of torch
    imported: str | None = None  # the module that registers the device with torch, if any
    subject: str | None = None  # "NAME=package.module:factory": an implementation in place of NAME; see `replaced`

    @property
    def replaced(self) -> str | None:
        """The name in REPLACEABLE of the module or function whose place the subject takes; None without a subject."""
        name, is_given, _ = (self.subject or "").rpartition("=")
        return (name if is_given else REPLACEABLE[0]) if self.subject else None

    @property
    def factory(self) -> str:
        """ "package.module:factory" of the subject; empty without one."""
        return (self.subject or "").rpartition("=")[2]

    def called(self, module: str) -> str:
        """The dotted name of the class, factory or function that is called. module: its name in torch."""
        if module == self.replaced:
            return self.factory.replace(":", ".")
        return f"torch.nn.{module if module[0].isupper() else f'functional.{module}'}"

    @property
    def imports(self) -> list[str]:
        """The modules to import beyond torch."""
        return [name for name in (self.imported, self.factory.partition(":")[0]) if name]

    @property
    def options(self) -> list[str]:
        """The arguments that follow a case on the command line."""
        device = [self.device] if self.device != "cpu" else []
        imported = ["--import", self.imported] if self.imported else []
        return [*device, *imported, *(["--subject", self.subject] if self.subject else [])]


CPU = Setting()

ON_CPU, ON_CUDA = ("cpu",), ("cuda",)
ON_BOTH = (*ON_CPU, *ON_CUDA)
