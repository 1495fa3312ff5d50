"""L-GreCo: each layer's gradient is compressed as far as the model's total error allows."""
