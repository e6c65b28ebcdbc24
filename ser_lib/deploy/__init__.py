"""Export a finished run: as ONNX, which runs without PyTorch, or as a folder for the Hugging Face Hub."""

from ser_lib.deploy.hub import to_hub
from ser_lib.deploy.onnx import to_onnx
from ser_lib.deploy.onnx_int8 import describe as describe_int8

__all__ = ["describe_int8", "to_hub", "to_onnx"]
