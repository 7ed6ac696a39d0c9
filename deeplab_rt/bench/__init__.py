"""The pipeline, what users would otherwise run, and the machine's roofline, measured side by side."""

# What users would otherwise run; `-int8` takes the quantised file, the others the fp32 one.
BASELINES = (
    "torch",
    "torch-compile",
    "onnxruntime",
    "onnxruntime-int8",
    "openvino",
    "openvino-int8",
    "smp",
)
