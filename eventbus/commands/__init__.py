"""What the commands of ``eventbus`` do. Their arguments, and what becomes of their errors, are in `cli`."""
