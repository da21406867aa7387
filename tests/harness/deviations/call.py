"""A call: a case on a release, with the paths that served its attentions."""

from dataclasses import dataclass, replace
from functools import cached_property

from ..cases.case import Case, source_of
from ..contents import packing
from ..execution.release import Release
from ..modes.modes import BY_ID
from ..modes.vectors import extension
from ..modes.written import is_written
from ..path_names import BY_SDPA, SDPA_FLASH, SDPA_MATH
from ..releases import since
from .paths import path_of_each_block, takes_nested_path


@dataclass(frozen=True)
class Call:
    """A case on a release, with the paths that served its attentions."""

    case: Case
    release: Release
    served: tuple[str, ...] = ()  # path that served each attention, in order (Observation.served)
    lengths: tuple[int, ...] | None = None  # keys of each sample, if the mode packs and `met` has removed the padding

    @property
    def met(self) -> "Call":
        """The call as torch sees it: without padding if the mode packs the samples into nested tensors."""
        if self.lengths is not None or not packing.packs(self.case):
            return self
        return replace(self, case=packing.without_padding(self.case), lengths=packing.lengths(self.case))

    @property
    def vectors(self) -> str:
        """The vector extension of the CPU whose kernels serve the call, such as AVX2."""
        return BY_ID[self.case.mode].vectors or extension()

    @property
    def is_as_written(self) -> bool:
        """True if attention is written by hand and not rewritten to scaled_dot_product_attention."""
        return is_written(self.case) and not any(path.startswith("sdpa") for path in self.served)

    def blocks(self, path: str) -> tuple[str, ...]:
        """The attention blocks that the release serves by this path.

        path: NATIVE_LAYER, NATIVE_MHA, BY_SDPA or EXPLICIT. If the encoder packs the batch, its block has no masks any
        more, and is left out.
        """
        return self._blocks.get(path, ())

    @cached_property
    def _blocks(self) -> dict[str, tuple[str, ...]]:
        """{path: blocks that it serves}, cached since triggers read it again and again."""
        if self.is_as_written:
            return {}
        paths = path_of_each_block(self.case, self.release)
        if takes_nested_path(self.case, self.release):
            paths = {block: path for block, path in paths.items() if source_of(block) != "src"}
        return {path: tuple(block for block in paths if paths[block] == path) for path in paths.values()}

    def flash_blocks(self) -> tuple[str, ...]:
        """The blocks that scaled_dot_product_attention computes by the flash kernel. An export only records calls."""
        return () if BY_ID[self.case.mode].packages else self.sdpa_blocks(SDPA_FLASH)

    def sdpa_blocks(self, *kernels: str) -> tuple[str, ...]:
        """The blocks that scaled_dot_product_attention computes by one of these kernels (watching.PATHS)."""
        served = {block for block, kernel in self._kernels() if kernel in kernels}
        return tuple(block for block in self.blocks(BY_SDPA) if block in served)

    def kernel_of_first(self, block: str) -> str | None:
        """The kernel that serves the block in its first layer; None if none does."""
        return next((kernel for its, kernel in self._kernels() if its == block), None)

    def _kernels(self):
        """(block, kernel) of each attention that scaled_dot_product_attention computes, in order."""
        kernels = [path for path in self.served if path.startswith("sdpa")]
        served = self.blocks(BY_SDPA)
        order = [block for block in self.case.order if block in served]
        # There may be more kernels than blocks: the output of a fast-path layer with a learned mask requires a
        # gradient, which keeps later layers off their fast path.
        pairs = zip(order, kernels[max(len(kernels) - len(order), 0) :], strict=False)
        return [(block, SDPA_MATH if self._has_strided_mask(block) else kernel) for block, kernel in pairs]

    def _has_strided_mask(self, block):
        """True if vmap makes the sum of two masks strided over keys, which the fused kernel takes only since 2.8.

        The eager call, which shows the kernels, has a contiguous sum. It is contiguous under vmap, too, if the padding
        is expanded over the heads of several samples, or if keys are appended.
        """
        case = self.case
        if case.mode != "vmap_of_masks" or since(self.release, "2.8") or not case.attentions:
            return False
        attn_mask, padding = (getattr(case, name) for name in case.mask_names(block))
        if not (attn_mask and padding) or case.appended_keys:
            return False
        return attn_mask.per_head or 1 in (case.N, case.num_heads)
