"""Model folders behind HTTP: a thin layer over `inference.session`, in the words of clients that exist."""
