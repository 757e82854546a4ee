"""Carbon intensity of electricity by zone and hour: providers, cache, publishing."""
