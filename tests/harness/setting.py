"""Where calls are made, and of what: what a report needs to tell how to make one again."""

from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import Version


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

# Where the ranges of both ledgers have been measured: {type of device: releases}.
MEASURED = {"cpu": ">=1.13", "cuda": "==2.11.*"}
ON_CPU, ON_CUDA = ("cpu",), ("cuda",)
ON_BOTH = (*ON_CPU, *ON_CUDA)


def is_measured(device_type, version):
    """Whether the ranges have been measured on this type of device in this release (a packaging.version.Version)."""
    return contains(MEASURED.get(device_type, "<0"), version)


def contains(affected, version):
    """Whether a version specifier has this version, as which a nightly build of it counts."""
    return SpecifierSet(affected, prereleases=True).contains(Version(version.base_version))
