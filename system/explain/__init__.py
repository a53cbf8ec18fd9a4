"""What a network looked at: attention of the transformers, Grad-CAM of the CNN, maps of embeddings. Numbers only; the
pictures are the report's."""
