"""Clients that ask a deployed model for minutes: errors, throughput, latency, memory over time.

    python -m samples.serve_loop ARTEFACT --data GLUE_DIR [--task mrpc] [--minutes 10] [--clients 4]
    python -m samples.serve_loop --print

One model from `nxmi_export.load`, and as many threads as there are clients, each with one request
after the other: 1 to `--texts` sentences (or pairs) of the dev set. Every second one is drawn anew,
so that batches have as many shapes as in service; the others come from a pool whose answers were
computed before, one at a time, and an answer of other bits than those counts as wrong. The first
tenth of the run is warm-up: every other request is the heaviest there is, since onnxruntime's arena
grows to what the clients take when the heaviest of all meet, and keeps that.

Growth is judged by anonymous memory over the second half of the run: a line of least squares
through the means of 20 blocks, since neighbouring samples are not independent, with Student's 95 %
interval. "No growth" means that all of the interval lies below a hundredth of that memory in ten
minutes, "growth" that all of it lies above, and anything else is undecided and asks for a longer
run. Resident memory keeps rising for minutes without growth: each new word brings in a page of the
mapped embedding table, until all of that file is in.

`--record` keeps the result in samples/results/serve_loop, `--print` shows what is there in
Markdown. Exit code 1 for an error, a wrong answer, or any verdict but "no growth".
"""
