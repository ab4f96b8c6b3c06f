"""One file for each kind of child: how it is made, and how its status is read."""
