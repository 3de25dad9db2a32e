"""Looks at layers that users wrote in Python for what makes them lose weights, stay behind, or break later."""
