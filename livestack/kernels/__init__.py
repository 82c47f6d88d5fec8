"""Compiled loops (numba). Callers own the memory and check it; nothing here knows what a frame is.

All kernels are `nogil=True, cache=True`, take C-contiguous arrays in native byte order, and work on a band of rows so
that a caller can share the rows among threads. Never `fastmath=True`: it deletes the NaN tests that "no data" needs.
"""
