"""What several column types share: tokens, points on a line, patches, histories."""
