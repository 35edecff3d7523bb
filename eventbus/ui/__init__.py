"""The page of ``eventbus ui``, which watches a live bus; only that command imports it. Needs starlette and uvicorn.

What it shows is decided in pure modules (`overview`, `sampler`, `shown`, `notices`, `probe_facts`, `access`); `watcher` and
`prober` are its threads, `feeds` and `server` hand it to browsers, and `page/` is what those load.
"""
