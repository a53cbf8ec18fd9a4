"""Errors of memory that is used up, on any device."""

# Of RuntimeError: torch's allocators of the processor and of Apple's GPU, and the libraries on NVIDIA's.
TEXTS = ("can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is used up, that of this machine or of its GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, without importing it
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in TEXTS)
