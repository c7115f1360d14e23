"""Where tables come from, one format a file. Files are data, never code: nothing is unpickled."""
