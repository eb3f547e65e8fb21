"""How an item becomes a request and a reply becomes a value: pure."""
