"""From a corpus and a recipe to the best checkpoint."""
