"""The advisor: from a description of some work to the machine to rent for it."""
