"""What measures ferrows against its peers; see README.md here."""
