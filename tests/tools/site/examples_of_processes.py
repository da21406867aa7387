"""Examples of entries about modules that several processes share: {id: Example}."""

from .example import Example

EXAMPLES = {
    "fully-shard-gradients-summed": Example(
        """
        import os
        from torch.distributed.fsdp import fully_shard

        def train(rank, gradient):
            os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "29517", "RANK": str(rank), "WORLD_SIZE": "2"}
            torch.distributed.init_process_group("gloo")
            attention = nn.MultiheadAttention(8, 2, batch_first=True)
            attention = fully_shard(attention, mesh=torch.distributed.init_device_mesh("cpu", (2,)))
            x, padding = torch.randn(1, 4, 8), torch.tensor([[False, False, False, True]])
            attention(x, x, x, key_padding_mask=padding)[0].mean(1).sum().backward()
            gradient.copy_(list(attention.parameters())[-1].grad.full_tensor())  # it is 1 in each process

        gradient = torch.zeros(8).share_memory_()
        torch.multiprocessing.start_processes(train, (gradient,), nprocs=2, start_method="fork")
        print("averaged over two processes:", round(gradient[0].item(), 3))
        """,
        "averaged over two processes: 2.0",
        "averaged over two processes: 1.0",
        (
            (
                'fully_shard(attention, mesh=torch.distributed.init_device_mesh("cpu", (2,)))',
                "torch.nn.parallel.DistributedDataParallel(attention)",
            ),
            ("grad.full_tensor()", "grad"),
        ),
        needs=">=2.7",
    ),
    "fsdp-inference-mode-raises": Example(
        """
        import os
        from torch.distributed.fsdp import FullyShardedDataParallel

        def infer(rank):
            os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "29518", "RANK": str(rank), "WORLD_SIZE": "2"}
            torch.distributed.init_process_group("gloo")
            attention = nn.MultiheadAttention(8, 2, batch_first=True)
            attention = FullyShardedDataParallel(attention, device_id=torch.device("cpu"))
            x, padding = torch.randn(1, 4, 8), torch.tensor([[False, False, False, True]])
            with torch.inference_mode():
                attention(x, x, x, key_padding_mask=padding)

        torch.multiprocessing.start_processes(infer, nprocs=2, start_method="fork")
        print("no error")
        """,
        "ProcessRaisedException: Inplace update to inference tensor outside InferenceMode is not allowed",
        "no error",
        (("torch.inference_mode()", "torch.no_grad()"),),
        needs=">=2.2",
    ),
    "tensor-parallel-no-bias-raises": Example(
        """
        import os
        from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

        def infer(rank):
            os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "29519", "RANK": str(rank), "WORLD_SIZE": "2"}
            torch.distributed.init_process_group("gloo")
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0, bias=False)
            plan = {"linear1": ColwiseParallel(), "linear2": RowwiseParallel()}
            layer = parallelize_module(layer, torch.distributed.device_mesh.init_device_mesh("cpu", (2,)), plan)
            with torch.inference_mode():
                layer(torch.randn(1, 4, 8))

        torch.multiprocessing.start_processes(infer, nprocs=2, start_method="fork")
        print("no error")
        """,
        "ProcessRaisedException: Operator aten.matmul.default does not have a sharding strategy registered",
        "no error",
        (("torch.inference_mode()", "torch.no_grad()"),),
        needs=">=2.2",
    ),
    "tensor-parallel-native-raises": Example(
        """
        import os
        from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

        def infer(rank):
            os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "29520", "RANK": str(rank), "WORLD_SIZE": "2"}
            torch.distributed.init_process_group("gloo")
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
            plan = {"linear1": ColwiseParallel(), "linear2": RowwiseParallel()}
            layer = parallelize_module(layer, torch.distributed.device_mesh.init_device_mesh("cpu", (2,)), plan)
            with torch.no_grad():
                layer(torch.randn(1, 4, 8))

        torch.multiprocessing.start_processes(infer, nprocs=2, start_method="fork")
        print("no error")
        """,
        "ProcessRaisedException: _transformer_encoder_layer_fwd.default: got mixed torch.Tensor and DTensor",
        "no error",
        (("with torch.no_grad()", "torch.backends.mha.set_fastpath_enabled(False)\n    with torch.no_grad()"),),
        needs=">=2.3",
    ),
    "tensor-parallel-nested-raises": Example(
        """
        import os
        from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

        def infer(rank):
            os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "29521", "RANK": str(rank), "WORLD_SIZE": "2"}
            torch.distributed.init_process_group("gloo")
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            encoder = nn.TransformerEncoder(layer, 2).eval()
            plan = {"layers.*.linear1": ColwiseParallel(), "layers.*.linear2": RowwiseParallel()}
            encoder = parallelize_module(encoder, torch.distributed.device_mesh.init_device_mesh("cpu", (2,)), plan)
            with torch.no_grad():
                encoder(torch.randn(1, 4, 8), src_key_padding_mask=torch.arange(4)[None] > 2)

        torch.multiprocessing.start_processes(infer, nprocs=2, start_method="fork")
        print("no error")
        """,
        "ProcessRaisedException: NestedTensorImpl doesn't support sizes",
        "no error",
        (("(layer, 2)", "(layer, 2, enable_nested_tensor=False)"),),
        needs=">=2.5",
    ),
}
