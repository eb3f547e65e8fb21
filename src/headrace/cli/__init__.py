"""The command line: words in, files and a live display out."""
