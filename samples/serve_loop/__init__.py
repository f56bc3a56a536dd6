"""Clients that ask a deployed model for minutes: errors, throughput, latency, memory over time.

    python -m samples.serve_loop ARTEFACT --data GLUE_DIR [--task mrpc] [--minutes 10] [--clients 4]

One model from `nxmi_export.load`, and as many threads as there are clients, each with one request
after the other: 1 to `--texts` sentences (or pairs) of the dev set. Every second one is drawn anew,
so that batches have as many shapes as in service; the others come from a pool whose answers were
computed before, one at a time, and an answer of other bits than those counts as wrong. Each client
begins with the longest texts, all at once, and the first tenth of the run is warm-up, in which
onnxruntime's arena grows to what that takes. Memory is the process's resident memory, and its slope
that of block means, whose scatter gives the standard error, for neighbouring samples are not
independent. Exit code 1 for an error, a wrong answer, or growth beyond two standard errors and a
hundredth of the memory.
"""
