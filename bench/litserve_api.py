"""What LitServe is told of a rival (`rival_servers`): in a file of its own, which its workers import anew; without
annotations as texts, which it would not understand."""

from typing import Any

import litserve

from bench import rival_servers


class Api(litserve.LitAPI):
    """`kind` is litserve (a pipeline) or onnx."""

    def __init__(self, kind: str, folder: str, precision: str) -> None:
        super().__init__(max_batch_size=rival_servers.MOST_TOGETHER, batch_timeout=rival_servers.WAIT_SECONDS)
        self.kind, self.folder, self.precision = kind, folder, precision

    def setup(self, device: str) -> None:
        make = {"litserve": rival_servers.pipeline_of, "onnx": rival_servers.onnx_of}[self.kind]
        self.answer = make(self.folder, self.precision)

    def decode_request(self, request: dict[str, Any]) -> str:
        return str(request["text"])

    def predict(self, texts: list[str]) -> list[dict[str, Any]]:
        return list(self.answer(texts))

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output
