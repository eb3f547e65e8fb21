"""Values and ports that every other room shares; imports nothing of headrace."""
