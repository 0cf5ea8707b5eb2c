"""Serving a release over HTTP: TF Serving's REST v1 and the Open Inference Protocol v2, micro-batched.

From the bytes inwards: `app` (ASGI) → `routes` → `v1`, `v2` (what the protocols say) → `tensors` (rows of a signature) →
`batcher` (one thread, one model) → a `Servable`. `loading` makes a verified release ready, `following` changes it while
requests go on, `main` runs it all until a signal comes, `draining` ends it.

Importing this package costs nothing; numpy, uvicorn and the model's libraries come in with the modules that need them.
"""
