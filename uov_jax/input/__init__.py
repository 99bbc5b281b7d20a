"""From files to padded batches: voxels, augmentation, samples and their batches, the loader."""
