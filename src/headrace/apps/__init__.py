"""Applications: whole programs on headrace's public face, to be used and to be read first. They import nothing else of it."""
