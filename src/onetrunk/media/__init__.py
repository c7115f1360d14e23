"""Pictures, films and sound as files, bytes and arrays: opened, converted, written. No column type, no torch."""
