"""Methods of explanation, one a file (`explanation.method`)."""
