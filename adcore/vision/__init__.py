"""Images, masks and maps as arrays: decoding, geometry, and the defects and puzzles made of normal images.

Sources: docs/papers/sbm-pfam.md#synthetic-defects, docs/papers/sbm-pfam.md#jigsaw-puzzles, docs/papers/mffa.md#psg.

Images are uint8 arrays (3, H, W) as `adcore.vision.images.ImageFile.load` gives them (of a tensor: `tensor.numpy()`),
masks bool (H, W). No function changes its input, and all that is random comes from the generator it is handed.
"""
