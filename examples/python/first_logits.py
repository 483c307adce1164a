"""Runs a converted model through onnxruntime: the same prompt alone, and in a batch among other prompts. The logits of its
last token are the same bytes, and their digests are printed.
    ortbi convert MODEL CONVERTED
    python first_logits.py CONVERTED/model.onnx CONVERTED/libort_batch_invariant.so HEAD_SIZE
HEAD_SIZE is `head_size` of genai_config.json.
"""
import sys

import numpy as np
import onnxruntime


def first_row(session, batch, head_size, length=8):
    """The FNV-1a digest of the last token's logits of the first of `batch` rows."""
    feeds = {}
    for value in session.get_inputs():
        if len(value.shape) == 4:  # [batch, heads, past, head size], nothing past yet
            feeds[value.name] = np.zeros((batch, value.shape[1], 0, head_size), np.float32)
        elif value.name == "attention_mask":
            feeds[value.name] = np.ones((batch, length), np.int64)
        else:
            feeds[value.name] = (3 + 7 * np.arange(batch * length, dtype=np.int64) % 50).reshape(batch, length)
    logits = session.run(["logits"], feeds)[0]
    digest = 14695981039346656037
    for byte in logits[0, -1].tobytes():
        digest = (digest ^ byte) * 1099511628211 % 2**64
    return digest


options = onnxruntime.SessionOptions()
options.register_custom_ops_library(sys.argv[2])  # the line that is new
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
for batch in (1, 2, 8):
    print(f"{first_row(session, batch, int(sys.argv[3])):016x}")
