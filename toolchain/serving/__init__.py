"""A bundle behind HTTP: concurrent requests share batches, limits hold, and a new bundle is taken over in between."""
