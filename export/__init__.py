"""The portable classifier: one text definition, its ONNX and TorchScript forms, the bundle, the parity proof.

Imports nothing from `toolchain`. `text`, `spec` and `bundle` are plain Python and numpy; only `onnx_graph` needs onnx,
only `torchscript` and `pt2` need torch.
"""
