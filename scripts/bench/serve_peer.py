"""The peer of scripts/bench/serve.py: plain FastAPI around ``transformers.pipeline``.

    python scripts/bench/serve_peer.py PACKAGE PORT plain|tuned

``plain`` is the obvious way: a function in FastAPI's thread pool. ``tuned`` uses one thread, so that requests do not
compete for cores. Both load the package's folder as an ordinary model.
"""

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def main(folder: str, port: int, kind: str) -> None:
    import torch
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel
    from transformers import pipeline

    if kind == "tuned":
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    pipe = pipeline("text-classification", model=folder, top_k=None, truncation=True, max_length=128)
    app = FastAPI()

    class Body(BaseModel):
        inputs: str

    if kind == "plain":

        @app.post("/predict")
        def predict(body: Body) -> Any:
            return pipe(body.inputs)[0]
    else:
        model_thread = ThreadPoolExecutor(1)

        @app.post("/predict")
        async def predict_in_turn(body: Body) -> Any:
            return (await asyncio.get_running_loop().run_in_executor(model_thread, pipe, body.inputs))[0]

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
