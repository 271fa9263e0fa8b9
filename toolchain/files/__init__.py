"""Bytes on disk, in an object store or on a standard stream, and the records in them."""
