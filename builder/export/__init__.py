"""A trained model in the forms in which others take it: ONNX, torch.export, weights, plain Python. No Lightning."""
