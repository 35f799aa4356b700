"""Tell whether images are defective: python infer.py IMAGE...

A line an image: verdict, score, path. It needs numpy, pillow and onnxruntime (torch for a model.pt2), no adcore. Exit
code 3 where an image could not be read."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adcore.line._preprocess import load


def model(folder: Path, facts: dict[str, Any]) -> Callable[[Any], tuple[Any, Any]]:
    """Images (1, 3, size, size), uint8 -> smoothed maps (1, size, size) and scores (1,), float32."""
    path = folder / facts["model"]["file"]
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return lambda images: tuple(session.run(["maps", "scores"], {"images": images}))
    import torch

    program = torch.export.load(path).module()

    def run(images: Any) -> tuple[Any, Any]:
        with torch.no_grad():
            maps, scores = program(torch.from_numpy(images))
        return maps.numpy(), scores.numpy()

    return run


def verdict(score: float, facts: dict[str, Any]) -> str:
    """By the threshold of image scores; "scored" where the bundle has none."""
    if facts["thresholds"] is None:
        return "scored"
    label: str = facts["labels"]["defective" if score > facts["thresholds"]["image"]["value"] else "normal"]
    return label


def main(paths: list[str]) -> int:
    """Print a line an image."""
    folder = Path(__file__).parent
    facts = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    run, failed = model(folder, facts), 0
    for path in paths:
        try:
            image = load(Path(path), facts["image"])
        except Exception as error:  # of whatever Pillow raises on damaged files
            print(f"failed\t\t{path}\t{error}")
            failed += 1
            continue
        score = float(run(image[None])[1][0])
        print(f"{verdict(score, facts)}\t{score:.9g}\t{path}")
    return 3 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
