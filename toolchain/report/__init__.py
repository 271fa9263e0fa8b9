"""A scored file, or two models beside each other, as one HTML page."""
