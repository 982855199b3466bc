"""How the shipped weights, samples and published experiments were made."""
