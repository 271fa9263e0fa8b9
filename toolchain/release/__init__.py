"""From a snapshot to a published bundle: exported, proven, described."""
