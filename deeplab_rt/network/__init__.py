"""DeepLab V3+ in torch: encoders, ASPP, decoder, checkpoints, export, quantisation."""
