"""What goes in: reading and checking rows, safe images, the sampler."""
