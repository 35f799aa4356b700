"""Networks and what they make of images: backbones, the extractor, and the bank that keeps features."""
