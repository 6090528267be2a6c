"""What a watch began or ended becomes a message on disk, and from there reaches every sink at least once."""
