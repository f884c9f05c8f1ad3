"""The decision: values in, values out. No I/O, clock, randomness, logging or third-party import below this folder."""
