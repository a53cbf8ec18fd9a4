"""Explanations of networks as arrays: attention of transformers, Grad-CAM of CNNs, maps of embeddings.

The report draws them.
"""
