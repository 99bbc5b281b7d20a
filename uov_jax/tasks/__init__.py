"""Training stages: each joins data, model, loss and metric; the loop does the rest."""
