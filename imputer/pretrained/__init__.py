"""Where weights meet methods: model packages and checkpoints of the authors."""
