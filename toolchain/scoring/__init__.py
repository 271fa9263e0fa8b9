"""From a bundle and a file of reviews to a scored file, without torch."""
