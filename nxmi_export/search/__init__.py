"""Which scheme each linear gets: the space of choices, what each costs, and who wins."""
