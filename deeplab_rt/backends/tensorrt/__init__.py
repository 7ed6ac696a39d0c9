"""The GPU backend: TensorRT engines, CUDA kernels and the path of a frame between them.

Only :mod:`.probe` may be imported on a machine without CUDA; it says whether the others can be.
"""
