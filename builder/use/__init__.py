"""What is done with a trained model: loading, predicting, evaluating, taking its features. Loads no Lightning."""
