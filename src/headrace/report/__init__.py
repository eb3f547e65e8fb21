"""What a run did, for people: figures as text, and a page that opens anywhere."""
