"""What only the demo adds: digits, the tiny model, the scripted teacher."""
