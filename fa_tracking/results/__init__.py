"""The results database: runs as rows, epochs as rows, questions as SQL."""
