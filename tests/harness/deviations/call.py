"""A call: a case on a release, and the path that served each of its attentions."""

from dataclasses import dataclass, replace
from functools import cached_property

from ..cases.case import Case, ScaledDotProduct, Transformer
from ..contents import packing
from ..execution.release import Release
from ..modes.modes import BY_ID
from ..modes.vectors import extension
from .paths import attention_blocks, path_of_each_block, source_of, takes_nested_path


@dataclass(frozen=True)
class Call:
    """A case on a release, and the path that served each of its attentions, in order (Observation.served).

    lengths: how many keys each sample has, of a call as torch meets it, where the mode packs.
    """

    case: Case
    release: Release
    served: tuple[str, ...] = ()
    lengths: tuple[int, ...] | None = None

    @property
    def met(self):
        """The call as torch meets it: where the mode packs, without the padding."""
        if self.lengths is not None or not packing.packs(self.case):
            return self
        return replace(self, case=packing.without_padding(self.case), lengths=packing.lengths(self.case))

    @property
    def vectors(self):
        """The vector extension of the CPU whose kernels serve the call."""
        return BY_ID[self.case.mode].vectors or extension()

    def blocks(self, path):
        """The attention blocks that the release serves by this path: "native_layer", "native_mha", "sdpa", "explicit".

        On the nested path the encoder's block has no masks any more, and is not among them.
        """
        return self._blocks.get(path, ())

    @cached_property
    def _blocks(self):
        """{path: blocks that it serves}; triggers ask for it again and again."""
        if isinstance(self.case, ScaledDotProduct):
            return {"sdpa": ("sdpa",)}
        paths = path_of_each_block(self.case, self.release)
        if takes_nested_path(self.case, self.release):
            paths = {block: path for block, path in paths.items() if source_of(block) != "src"}
        return {path: tuple(block for block in paths if paths[block] == path) for path in paths.values()}

    def flash_blocks(self):
        """Those that scaled_dot_product_attention gives to the kernel that is called flash."""
        return self.sdpa_blocks("sdpa_flash")

    def sdpa_blocks(self, *kernels):
        """Those that scaled_dot_product_attention gives to one of these kernels (watching.PATHS)."""
        served = {block for block, kernel in self._kernels() if kernel in kernels}
        return tuple(block for block in self.blocks("sdpa") if block in served)

    def kernel_of_first(self, block):
        """The kernel that serves the block in its first layer."""
        return next((kernel for its, kernel in self._kernels() if its == block), None)

    def _kernels(self):
        """(block, kernel) of each attention that scaled_dot_product_attention computes, in order."""
        kernels = [path for path in self.served if path.startswith("sdpa")]
        attention_blocks = self.blocks("sdpa")
        order = [block for block in self._order() if block in attention_blocks]
        # what a native layer makes of a learned mask has a gradient, which keeps later layers off their native path
        return list(zip(order, kernels[max(len(kernels) - len(order), 0) :], strict=False))

    def _order(self):
        """The blocks in the order in which they are computed: all layers of the encoder, then those of the decoder."""
        case = self.case
        if not isinstance(case, Transformer):
            return ("sdpa",) if isinstance(case, ScaledDotProduct) else ("self",)
        is_split = any("." in block for block in attention_blocks(case))
        parts = [".early"] * (case.num_layers - 1) + [".last"] if is_split else [""] * case.num_layers
        stacks = (("src",) if case.has_encoder else ()), (("tgt", "memory") if case.has_decoder else ())
        return tuple(f"{name}{part}" for names in stacks for part in parts for name in names)
