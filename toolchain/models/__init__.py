"""The PyTorch classifiers, the recipes that name their sizes, and the snapshot that keeps one."""
