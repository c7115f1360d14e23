"""Methods of explanation, one a file (`explain.method`)."""
