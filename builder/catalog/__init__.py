"""What is registered from torch and torchmetrics: one file a registry, imported when the registry is first asked."""
